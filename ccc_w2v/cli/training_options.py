"""What `pretrain`, `finetune` and `resume` share: their options, and the run with its progress bar."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.run_folder import add_overwrite_option

if TYPE_CHECKING:
    from ccc_w2v.training.launch import Run


def add_training_options(parser: argparse.ArgumentParser, recipes: str) -> None:
    """Add where the data is, where the run goes, and how it is trained."""
    add = parser.add_argument
    add(
        "--data", required=True, help="folder of manifests, as `ccc-w2v manifest` writes it; or a stream: docs/scale.md"
    )
    add("--out", required=True, type=Path, help="the run's folder: checkpoints, train.log, tensorboard")
    add("--recipe", default="tiny", metavar="NAME", help=f"{recipes}, or a YAML file (default: %(default)s)")
    add("--gpus", type=int, metavar="N", help="processes, one per GPU (default: all GPUs; 0: the CPU)")
    add(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="overrides, as for fairseq-hydra-train: optimization.max_update=1000",
    )
    add_overwrite_option(parser)


def gpus_here() -> int:
    """Return how many GPUs this machine has, without torch: 0 where there is no driver."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def train(run: Run, title: str) -> int:
    """Train, show a progress bar, and say where the checkpoints are."""
    from ccc_w2v.cli.follow import follow
    from ccc_w2v.training.launch import LOG

    code = follow(run.command(), Path(run.out) / LOG, title)
    if code == 0:
        print(f"{Path(run.out) / 'checkpoints'}: the checkpoints; the whole output is in {Path(run.out) / LOG}")
    return code
