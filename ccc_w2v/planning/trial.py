"""Twenty updates of a recipe on this machine: what a batch takes, and how much of the GPU's memory."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from tqdm import tqdm

from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.synthetic import corpus
from ccc_w2v.errors import InputError
from ccc_w2v.planning.plan import Recipe
from ccc_w2v.planning.recipe import missing_settings
from ccc_w2v.training.log import parse_line

STEPS = 20
# The first ones compile kernels, fill caches and lower the loss scale.
LEFT_OUT = 8
# Settings that a recipe may leave to the user and that a trial makes for the while.
NOISE = "task.noise_manifest"
MADE = ("task.data", NOISE)
_TIME = re.compile(r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})\]")


@dataclass(frozen=True)
class Trial:
    """What was measured, on which machine."""

    step_seconds: float
    memory: float | None  # the most that tensors took at once on the GPU [GiB]
    device: str


def measure(config: Path, recipe: Recipe, max_tokens: int, overrides: Sequence[str], speech: str | None) -> Trial:
    """Train STEPS updates of one batch with fairseq-hydra-train on one device; median of the last intervals.

    The audio is a manifest's (``speech``) or made for the while, as is noise to mix in, where the recipe names none.
    Data workers read and augment as in the run, so that their speed counts; gradients are not exchanged with others.
    Raises InputError for a fine-tuning, which needs a checkpoint and labels, for a recipe that leaves another setting
    to the user, and where the training fails.
    """
    if not recipe.pretraining:
        raise InputError(f"{recipe.name}: --measure is for pre-training; a fine-tuning needs a checkpoint and labels")
    missing = missing_settings(config, overrides)
    if unknown := [name for name in missing if name not in MADE]:
        raise InputError(f"{config}: leaves {unknown[0]} to you, and --measure trains: add {unknown[0]}=...")
    seconds = recipe.longest / recipe.sample_rate
    with corpus(seconds, speech, None) as made, tempfile.TemporaryDirectory(prefix="ccc_trial") as name:
        data = Path(name)
        _repeat(made.speech, data / "trial.tsv", (STEPS + 2) * max(1, max_tokens // recipe.longest + 1))
        _repeat(made.speech, data / "valid.tsv", 1)  # fairseq 0.12.2 loads it, and then does not validate
        fixed = [
            f"common.user_dir={Path(__file__).resolve().parents[1]}",
            f"hydra.run.dir={data / 'run'}",
            f"task.data={data}",
            "dataset.train_subset=trial",
            "dataset.valid_subset=valid",
            f"dataset.max_tokens={max_tokens}",
            "dataset.disable_validation=true",
            f"optimization.max_update={STEPS}",
            "optimization.update_freq=[1]",
            "distributed_training.distributed_world_size=1",
            "checkpoint.no_save=true",
            "common.log_format=json",
            "common.log_interval=1",
            "common.tensorboard_logdir=null",
        ]
        # By the name that a recipe may look for in its data; where it leaves the name to the user, it is given.
        (data / "noise.tsv").symlink_to(made.noise)
        if NOISE in missing:
            fixed.append(f"{NOISE}={data / 'noise.tsv'}")
        if not torch.cuda.is_available():
            fixed += ["common.fp16=false"]
        command = [str(Path(sys.executable).parent / "fairseq-hydra-train"), "--config-dir", str(config.parent)]
        command += ["--config-name", config.stem, *overrides, *fixed]
        lines = list(tqdm(_statistics(command), desc="measuring", total=STEPS, unit=" updates", mininterval=1))
    return _read(lines)


def _repeat(manifest: Path, out: Path, count: int) -> None:
    """Write a manifest of at least ``count`` utterances: the same ones again and again, so that one epoch is enough."""
    training = read_manifest(manifest)
    entries = [(entry.path, entry.samples) for entry in training.entries]
    write_manifest(out, training.root, (entries * (count // len(entries) + 1))[: max(count, len(entries))])


def _statistics(command: list[str]) -> Iterator[tuple[datetime, dict[str, float]]]:
    """Run a training; yield each update's time and values. Raises InputError with its last words if it fails."""
    last: list[str] = []
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            last = [*last[-30:], line.rstrip()]
            time, parsed = _TIME.match(line), parse_line(line)
            if time and parsed and parsed[0] == "train_inner":
                yield datetime.strptime(time[1], "%Y-%m-%d %H:%M:%S,%f"), parsed[1]
    if process.returncode:
        errors = [line.removeprefix("error: ") for line in last if line.startswith("error: ")]
        memory = any("out of memory" in line.lower() for line in last)
        remedy = "the GPU's memory is too small for this max_tokens; give a smaller --max-tokens" if memory else ""
        raise InputError(f"the trial failed: {remedy or '; '.join(errors) or last[-1]}")


def _read(lines: list[tuple[datetime, dict[str, float]]]) -> Trial:
    times = [time for time, _ in lines]
    intervals = [(after - before).total_seconds() for before, after in zip(times, times[1:], strict=False)]
    if len(intervals) <= LEFT_OUT:
        raise InputError(
            f"the trial logged {len(lines)} updates, expected {STEPS}: too few batches, list more audio in the manifest"
        )
    memory = None
    device = f"{os.cpu_count()} CPU cores"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        device = properties.name
        # fairseq logs what torch.cuda.max_memory_allocated leaves of the GPU, in GiB.
        free = min(values["gb_free"] for _, values in lines)
        memory = properties.total_memory / 2**30 - free
    return Trial(statistics.median(intervals[LEFT_OUT:]), memory, device)


def gpu_memory() -> float | None:
    """Memory of the first GPU here [GiB]; None where there is none."""
    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None
