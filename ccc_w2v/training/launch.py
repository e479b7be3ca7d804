"""A training that a command starts, and starts again: its settings in the run's folder, its command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ccc_w2v
from ccc_w2v.data.sources import source_of
from ccc_w2v.data.streams import is_stream_source
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256
from ccc_w2v.run_folder import Output, claim, keep_record
from ccc_w2v.shared_files import shared_folder
from ccc_w2v.text_files import read_yaml

# What the command was told; the training itself keeps run.json (training/run_record.py).
RECORD = "command.json"
PRETRAINED = "pretrained.pt"
LOG = "train.log"


@dataclass(frozen=True)
class Run:
    """What decides a training: its kind (pretraining, finetuning), folder, recipe, data and words for hydra."""

    kind: str
    out: str
    recipe: str
    data: str
    gpus: int
    overrides: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Return the command of the run: fairseq-hydra-train's arguments."""
        recipe = find_recipe(self.kind, self.recipe)
        return [
            *(sys.executable, "-m", "ccc_w2v.training.command"),
            *("--config-dir", str(recipe.parent), "--config-name", recipe.stem),
            f"common.user_dir={Path(ccc_w2v.__file__).resolve().parent}",
            f"hydra.run.dir={self.out}",
            f"task.data={self.data}",
            *spread(recipe, self.gpus),
            *self.overrides,
        ]


def data_of(data: str) -> str:
    """Return task.data of what --data names: the whole path of a folder, an address as it is."""
    return data if is_stream_source(data) else str(Path(data).resolve())


def find_recipe(kind: str, name: str) -> Path:
    """Return the YAML of a shipped recipe's name ("tiny", "base") or the path itself; InputError for neither."""
    folder = shared_folder("recipes/own/config") / kind
    shipped = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    path = shipped.get(name, Path(name)).resolve()
    if not path.is_file():
        raise InputError(f"--recipe {name}: neither a recipe nor a YAML file; recipes: {', '.join(shipped)}")
    return path


def spread(recipe: Path, gpus: int) -> list[str]:
    """Return the overrides that keep a recipe's batch on ``gpus`` GPUs (0: on the CPU): each takes several in turn.

    A recipe that leaves its number of GPUs to hydra's groups is not changed but for the CPU.
    """
    without_gpu = ["common.fp16=false", "common.bf16=false"] if gpus == 0 else []
    content = read_yaml(recipe, "recipe", "settings for fairseq-hydra-train")
    if "defaults" in content:
        return without_gpu
    training, optimization = content.get("distributed_training", {}), content.get("optimization", {})
    processes = max(1, gpus)
    batches = training.get("distributed_world_size", 1) * optimization.get("update_freq", [1])[0]
    in_turn = max(1, round(batches / processes))
    return [
        f"distributed_training.distributed_world_size={processes}",
        f"optimization.update_freq=[{in_turn}]",
        *without_gpu,
    ]


def claim_run(run: Run, inputs: Sequence[str | Path], *, overwrite: bool = False) -> None:
    """Make a run's folder its own; raises InputError where another run is there, or what is to be trained on is not."""
    for name in ("train_subset", "valid_subset"):
        for subset in (_setting(run, "dataset", name) or "").split(","):
            source = source_of(run.data, subset, _setting(run, "dataset", "train_subset"))
            if subset and not is_stream_source(source) and not Path(source).is_file():
                raise InputError(
                    f"{run.data}: holds no {subset}.tsv; write one with ccc-w2v manifest, or set dataset.{name}"
                )
    settings = {**asdict(run), "inputs": [sha256(path) for path in inputs if Path(path).is_file()]}
    out = Path(run.out)
    output = Output(out, settings, out / RECORD, [out / "checkpoints", out / PRETRAINED], inputs, ["gpus"])
    claim(output, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    keep_record(output)


def _setting(run: Run, section: str, name: str) -> str | None:
    """Return what a word for hydra, or else a flat recipe, says of a setting."""
    for word in reversed(run.overrides):
        if word.startswith(f"{section}.{name}="):
            return word.partition("=")[2]
    content = read_yaml(find_recipe(run.kind, run.recipe), "recipe", "settings for fairseq-hydra-train")
    return None if "defaults" in content else content.get(section, {}).get(name)


def read_run(folder: str | Path) -> Run:
    """Return the run in a folder of `ccc-w2v pretrain` or `finetune`; raises InputError for any other folder."""
    record = Path(folder) / RECORD
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        values = {name: content[name] for name in Run.__dataclass_fields__}
        return Run(**{**values, "overrides": tuple(values["overrides"])})
    except FileNotFoundError:
        raise InputError(f"{folder}: holds no {RECORD}; expected the folder of ccc-w2v pretrain or finetune") from None
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{record}: damaged ({error}); start the run again with its own command") from error


def newest_checkpoint(source: str | Path) -> Path:
    """Return a checkpoint itself, or the last of a run's folder; raises InputError where there is none."""
    source = Path(source)
    if source.is_file():
        return source
    for path in (source / "checkpoints" / "checkpoint_last.pt", source / "checkpoint_last.pt"):
        if path.is_file():
            return path
    raise InputError(f"{source}: neither a checkpoint nor a run's folder with checkpoints/checkpoint_last.pt")
