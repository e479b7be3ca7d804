"""Continue a run of `ccc-w2v pretrain` or `finetune` from its last checkpoint, with its own settings.

ccc-w2v resume exp/pretrain
ccc-w2v resume exp/pretrain --gpus 2
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.cli.training_options import train


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--gpus", type=int, metavar="N", help="processes, one per GPU (default: as before)")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.training.launch import read_run

    run = replace(read_run(options.run), out=str(options.run.resolve()))
    if options.gpus is not None:
        run = replace(run, gpus=options.gpus)
    return train(run, "pre-training" if run.kind == "pretraining" else "fine-tuning")
