"""Pre-train on a folder of manifests: fairseq-hydra-train with this plugin and a recipe for your own data.

    ccc-w2v pretrain --data data --out exp/pretrain                              tiny: minutes on two CPU cores
    ccc-w2v pretrain --data data --out exp/base --recipe base --gpus 8 optimization.max_update=100000
    ccc-w2v pretrain --data data --out exp/base --recipe base --noise musan/noise.tsv

--noise augments as the paper does, with recorded noise; without it, simulated rooms and Gaussian noise. The batch stays
the recipe's on any number of GPUs. An interrupted run resumes with the same command, or `ccc-w2v resume`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.cli.training_options import add_training_options, gpus_here, train


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_training_options(parser, "tiny (2 million parameters) or base (95 million)")
    parser.add_argument("--noise", type=Path, metavar="TSV", help="manifest of noise, from `ccc-w2v prepare musan`")
    return parser.parse_intermixed_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.training.launch import Run, claim_run, data_of

    noise = ["task.augment=paper", f"task.noise_manifest={options.noise.resolve()}"] if options.noise else []
    run = Run(
        "pretraining",
        str(options.out.resolve()),
        options.recipe,
        data_of(options.data),
        gpus_here() if options.gpus is None else options.gpus,
        (*noise, *options.overrides),
    )
    claim_run(run, [Path(options.data, "pretrain.tsv")], overwrite=options.overwrite)
    return train(run, "pre-training")
