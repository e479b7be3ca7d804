"""What a comparison consists of: arms and scales from the recipe's YAMLs, seeds, folders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.text_files import read_yaml

# Parts of a configuration whose keys fairseq knows only after it has read the YAML.
COMPONENTS = ("task", "model", "criterion", "optimizer", "lr_scheduler")
LABELS = ("10m", "1h")
README = "recipes/small/README.md"  # says how an arm's file is made
CLEAN = "clean"
GREEDY, BEAM, PROBE = "greedy", "lm", "probe"


@dataclass(frozen=True)
class Arm:
    """One way of pre-training: passes of the network in each update, updates in terms of the scale's, overrides.

    A pass is forward and backward; a teacher's, forward alone, is a third of one, so that both may be fractions.
    ``file`` is what its pre-training reads of the data folder beside the lists. With ``warm_start`` its feature encoder
    is fitted to spectra first.
    """

    name: str
    title: str
    passes: float
    updates: float
    needs: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    warm_start: bool = False


@dataclass(frozen=True)
class Scale:
    """Lengths and sizes: updates of an arm with two passes, updates between checkpoints, overrides, the probe's.

    ``warm_start`` holds settings of the warm start (ccc_w2v/warm_start.py) of the arms that have one, with
    ``after_spectra`` of all arms that are pre-trained; ``finetune_by_labels`` overrides of the fine-tunings on one size
    of subset, ``finetune_choices`` further overrides by name: each is a fine-tuning that every arm tries.
    ``finetune_again`` has, for a size of subset, the letter error (%) on dev ``above`` which a fine-tuning has not left
    the plateau of the CTC loss, and overrides (``set``) by which it is then done once more.
    """

    name: str
    updates: int
    save: int
    warm_start: Mapping[str, Any]
    pretrain: Mapping[str, Any]
    finetune: Mapping[str, Any]
    finetune_updates: Mapping[str, int]
    probe: Mapping[str, Any]
    finetune_choices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    finetune_by_labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    finetune_again: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    after_spectra: bool = False


@dataclass(frozen=True)
class SearchedLanguageModel:
    """An n-gram model of words and its lexicon, and how they weigh in the search."""

    lm: str
    lexicon: str
    beam: int = 50
    lm_weight: float = 2.0


@dataclass(frozen=True)
class Settings:
    """A whole comparison. ``data`` is a folder of ccc-w2v prepare small, ``out`` holds everything that is made.

    ``kept`` is a folder of archived transcripts (transcripts.py): chains that are there do not run again. Each
    pre-training runs in ``processes`` ranks, which share an update's speech.
    """

    recipe: Path
    data: Path
    out: Path
    arms: tuple[Arm, ...]
    scale: Scale
    seeds: tuple[int, ...]
    labels: tuple[str, ...] = LABELS
    device: str = "cpu"
    language_model: SearchedLanguageModel | None = None
    kept: Path | None = None
    processes: int = 1

    @property
    def conditions(self) -> dict[str, Path]:
        """Manifests of the test set: as it is, and under each condition of the recipe."""
        noisy = sorted((self.recipe / "conditions").glob("*.yaml"))
        return {CLEAN: self.data / "test.tsv"} | {
            path.stem: self.data / "conditions" / f"test_{path.stem}.tsv" for path in noisy
        }

    @property
    def chains(self) -> list[tuple[Arm, int]]:
        """Every arm with every seed, in the order in which they run."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms]

    def folder(self, arm: Arm, seed: int) -> Path:
        """Return the folder of an arm's run with a seed."""
        return self.out / arm.name / f"seed{seed}"

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        """(labels, decoder, condition) of every measurement of an arm with a seed."""
        decoders = [GREEDY, *([BEAM] if self.language_model else [])]
        tuned = [(labels, decoder) for labels in self.labels for decoder in decoders]
        probed = (str(self.scale.probe["train"]).removeprefix("train_"), PROBE)
        return [(labels, decoder, condition) for labels, decoder in (*tuned, probed) for condition in self.conditions]

    def transcripts(self, arm: Arm, seed: int, labels: str, decoder: str, condition: str) -> Path:
        """Return the folder with ref.trn and hyp.trn of one cell of the table."""
        name = PROBE if decoder == PROBE else f"{decoder}_{labels}"
        return self.folder(arm, seed) / name / condition

    def finished(self, arm: Arm, seed: int) -> dict[str, Any] | None:
        """Return what a chain's chain.json holds once each of its cells is there; None before.

        A condition that is added to the recipe makes finished chains unfinished, whose trainings are done.
        """
        record = self.folder(arm, seed) / "chain.json"
        if not record.is_file():
            return None
        if not all((self.transcripts(arm, seed, *cell) / "hyp.trn").is_file() for cell in self.cells):
            return None
        return json.loads(record.read_text(encoding="utf-8"))

    def warm_start(self, seed: int) -> Path:
        """Return the checkpoint that the arms with a warm start begin with."""
        return self.out / "warm_start" / f"seed{seed}.pt"

    def starts_warm(self, arm: Arm) -> bool:
        """Tell whether an arm begins with that checkpoint."""
        return arm.warm_start or (self.scale.after_spectra and arm.passes > 0)

    def pretraining_updates(self, arm: Arm) -> int:
        """Return how many updates an arm is pre-trained for."""
        return round(arm.updates * self.scale.updates)

    def pretraining_value(self, arm: Arm, key: str) -> Any:
        """Return what pretrain.yaml has for a key, unless the scale, or the arm, has another value for it."""
        section, name = key.split(".")
        default = _read(self.recipe / "config/pretrain.yaml")[section][name]
        return {key: default, **self.scale.pretrain, **arm.overrides}[key]

    def finetuning_updates(self, labels: str) -> int:
        """Return how many updates one fine-tuning on a labelled subset takes: as many as others of its size."""
        return self.scale.finetune_updates[size_of(labels)]

    def all_finetuning_updates(self, labels: str) -> int:
        """Return the updates of all fine-tunings on a labelled subset that dev chooses from."""
        return self.finetuning_updates(labels) * max(1, len(self.scale.finetune_choices))

    def encoder_passes(self, arm: Arm) -> int:
        """Return how often an arm's pre-training runs the network over an update's audio."""
        return round(arm.passes * self.pretraining_updates(arm))


def size_of(labels: str) -> str:
    """Return the size that a labelled subset's name begins with: "10m" of "10m_chosen"."""
    return labels.partition("_")[0]


def load_arms(recipe: Path) -> dict[str, Arm]:
    """Read the recipe's arms by name, in the order of the file."""
    rows = _read(recipe / "config/arms.yaml")
    return {
        name: Arm(
            name,
            row["title"],
            row["passes"],
            row["updates"],
            row.get("needs", ""),
            row.get("set", {}),
            row.get("file", ""),
            row.get("warm_start", False),
        )
        for name, row in rows.items()
    }


def choose_arms(recipe: Path, names: Sequence[str]) -> tuple[Arm, ...]:
    """Return the arms of these names (all that can run with the lists alone, for none), in the order of the file.

    Raises InputError for a name that is unknown or comes twice, and for an arm that needs a setting which this version
    does not have.
    """
    arms = load_arms(recipe)
    if unknown := [name for name in names if name not in arms]:
        raise InputError(f"unknown arm '{unknown[0]}'; available: {', '.join(arms)}")
    if len(set(names)) < len(names):
        raise InputError(f"found the arms {', '.join(names)}; expected each once")
    for name in names:
        if arms[name].needs and not _has_setting(arms[name].needs):
            raise InputError(f"arm {name} needs {arms[name].needs}, which this version does not have; leave it out")
    able = [name for name, arm in arms.items() if not arm.file and (not arm.needs or _has_setting(arm.needs))]
    chosen = names or able
    return tuple(arm for name, arm in arms.items() if name in chosen)


def load_scale(recipe: Path, name: str) -> Scale:
    """Read one scale of the recipe; raises InputError for an unknown one, and for settings of unknown labels."""
    path = recipe / "config/scales.yaml"
    scales = _read(path)
    if name not in scales:
        raise InputError(f"unknown scale '{name}'; available: {', '.join(scales)}")
    scale = Scale(name, **scales[name])
    for part in ("finetune_by_labels", "finetune_again"):
        if unknown := [labels for labels in getattr(scale, part) if labels not in scale.finetune_updates]:
            known = ", ".join(scale.finetune_updates)
            raise InputError(f"{path}: {name}.{part} has '{unknown[0]}'; finetune_updates has: {known}")
    for labels, again in scale.finetune_again.items():
        if again.keys() != {"above", "set"}:
            names = ", ".join(again)
            raise InputError(f"{path}: {name}.finetune_again.{labels} has {names}; expected above and set")
    return scale


def check_data(settings: Settings) -> None:
    """Raise InputError where the prepared corpus lacks a list, or a file that an arm reads."""
    lists = ("unlabelled", "dev", "test", *(f"train_{labels}" for labels in settings.labels))
    for name in lists:
        read_manifest(settings.data / f"{name}.tsv")
    for arm in settings.arms:
        if arm.file and not (settings.data / arm.file).is_file():
            raise InputError(f"arm {arm.name} reads {settings.data / arm.file}, which is not there; see {README}")


def check_processes(settings: Settings, gpus: int) -> None:
    """Raise InputError where a process would have none of the machine's ``gpus``, or less speech than a crop."""
    count = settings.processes
    if count < 1:
        raise InputError(f"--processes {count}: expected a whole number of at least 1")
    if settings.device == "cuda" and count > gpus:
        raise InputError(f"--processes {count}: each needs a GPU, and torch finds {gpus}")
    for arm in settings.arms:
        samples = settings.pretraining_value(arm, "dataset.max_tokens")
        longest = settings.pretraining_value(arm, "task.max_sample_size")
        if samples // count < longest:
            raise InputError(
                f"--processes {count}: an update's {samples} samples of audio give each less than a crop of {longest}; "
                f"expected at most {samples // longest}"
            )


def key_overrides(base: Path, values: Mapping[str, Any]) -> list[str]:
    """Return command-line overrides of a YAML: a key of a component that it does not name takes a plus."""
    named = _read(base)
    return [
        f"{'+' if key.split('.')[0] in COMPONENTS and not _names(named, key) else ''}{key}={_shown(value)}"
        for key, value in values.items()
    ]


def arm_record(arm: Arm) -> dict[str, Any]:
    """Return what decides an arm's numbers, as plain data: all but its title."""
    return {name: value for name, value in dataclasses.asdict(arm).items() if name != "title"}


def as_record(settings: Settings) -> dict[str, Any]:
    """Return what decides a comparison's numbers, as plain data."""
    record = dataclasses.asdict(settings)
    for name in ("finetune_choices", "finetune_by_labels", "finetune_again", "after_spectra"):
        if not record["scale"][name]:
            del record["scale"][name]  # comparisons from before there were any go on
    return json.loads(json.dumps({key: record[key] for key in ("scale", "labels", "device", "language_model")}))


def _has_setting(name: str) -> bool:
    from ccc_w2v.settings.criterion import CccCriterionConfig

    section, key = name.split(".")
    assert section == "criterion", name
    return key in {field.name for field in dataclasses.fields(CccCriterionConfig)}


def _names(config: Mapping[str, Any], key: str) -> bool:
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True


def _shown(value: Any) -> str:
    """Write a value as hydra's command line wants it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and any(sign in value for sign in "[](){},+* "):
        return f"'{value}'"
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    return str(value)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; --recipe takes the folder recipes/small of a checkout")
    return read_yaml(path, "configuration", "settings of the comparison")
