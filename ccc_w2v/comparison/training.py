"""One training of a comparison as a process of fairseq-hydra-train, which resumes from its last checkpoint."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ccc_w2v.comparison.settings import Settings
from ccc_w2v.errors import InputError
from ccc_w2v.shared_files import shared_folder
from ccc_w2v.training.log import parse_line

# What a device adds to both YAMLs: a GPU computes in half precision, and would wait for speech read in its own process.
DEVICE_OVERRIDES: dict[str, dict[str, Any]] = {"cpu": {}, "cuda": {"common.fp16": True, "dataset.num_workers": 4}}

Progress = Callable[[int], None]  # is told how many updates of a chain are done


def beyond(progress: Progress, done: int) -> Progress:
    """Return what counts the updates of one training after ``done`` earlier ones."""
    return lambda count: progress(done + count)


def run_training(
    folder: Path, settings: Settings, name: str, overrides: list[str], progress: Progress, processes: int = 1
) -> None:
    """Train by the recipe's YAML ``name`` in ``processes`` ranks, from the last checkpoint if there is one, to the end.

    All that it prints goes to train.log. Raises InputError for a training that fails, naming that log.
    """
    marker, log_path = folder / ".done", folder / "train.log"
    if marker.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    tools = Path(sys.executable).parent
    alone = [str(tools / "fairseq-hydra-train")]
    command = [
        *(alone if processes == 1 else ["bash", str(shared_folder("recipes/launch") / "one_node.sh"), str(processes)]),
        *("--config-dir", str(settings.recipe / "config"), "--config-name", name),
        f"common.user_dir={Path(__file__).resolve().parents[1]}",
        f"hydra.run.dir={folder}",
        *overrides,
    ]
    if settings.device == "cpu":
        command.append("common.cpu=true")
    # The launcher finds Python and fairseq by their names.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    with (
        open(log_path, "a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            preexec_fn=die_with_parent,
        ) as process,
    ):
        lines: list[str] = []
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            lines = [*lines[-20:], line.strip()]
            if (parsed := parse_line(line)) and "num_updates" in parsed[1]:
                progress(int(parsed[1]["num_updates"]))
    if process.returncode:
        said = next((text for text in lines if text.startswith("error: ")), lines[-1] if lines else "nothing printed")
        raise InputError(f"{log_path}: the training ended with exit code {process.returncode} ({said:.200})")
    marker.touch()


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it is gone, however that one was killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def end_of(folder: Path) -> dict[str, Any]:
    """Return fairseq's extra_state of a training that has ended.

    It has previous_training_time (s, of all resumptions together, without what a kill lost) and, if there was a
    validation, best (the checkpoint metric).
    """
    from ccc_w2v.checkpoint.read import load_checkpoint

    state: dict[str, Any] = load_checkpoint(folder / "checkpoints/checkpoint_last.pt")["extra_state"]
    return state
