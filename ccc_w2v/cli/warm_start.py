r"""Write weights from which a short pre-training starts: a feature encoder that already knows spectra.

    ccc-w2v warm-start recipes/small/config/pretrain.yaml --manifest data/small/unlabelled.tsv --out start.pt \
        task.data=data/small optimization.max_update=2000
    ccc-w2v pretrain recipes/small/config/pretrain.yaml --data data/small ... checkpoint.finetune_from_model=start.pt

The model is that of the configuration, drawn from common.seed; its feature encoder is fitted to the log-mel energies of
random crops of the manifest, without labels. A minute on one core; docs/evidence.md has what it changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser
from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("config", type=Path, help="YAML of the pre-training")
    add("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides, as for fairseq-hydra-train")
    add("--manifest", required=True, type=Path, help="unlabelled speech (.tsv)")
    add("--out", required=True, type=Path, help="checkpoint to write (.pt), in fairseq's own form")
    add("--updates", type=int, default=400, help="updates of the fit (default: 400)")
    add("--seconds", type=float, default=5.0, help="of each of 6 crops in an update; shorter recordings are left out")
    add("--learning-rate", type=float, default=1e-3, help="peak learning rate (default: 0.001)")
    add("--seed", type=int, default=1, help="of the crops (default: 1); the weights' is common.seed")
    add_overwrite_option(parser)
    return parser.parse_intermixed_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error

    return exit_on_input_error(run)(options)


def run(options: argparse.Namespace) -> None:
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.run_folder import refuse_input
    from ccc_w2v.warm_start import WarmStartSettings, write_start

    refuse_input([options.out], [options.config, options.manifest])
    settings = WarmStartSettings(
        updates=options.updates,
        seconds=options.seconds,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    manifest = read_manifest(options.manifest)
    losses = write_start(
        options.config, options.overrides, options.out, manifest, settings, overwrite=options.overwrite
    )
    tenth = max(1, len(losses) // 10)
    first, last = (sum(part) / len(part) for part in (losses[:tenth], losses[-tenth:]))
    print(f"{options.out}: {len(losses)} updates on {len(manifest)} recordings, loss {first:.3f} -> {last:.3f}")
    print("  (mean squared error of log-mel energies of variance 1, first and last tenth of the updates)")
    print(f"pre-train from it: checkpoint.finetune_from_model={options.out}")
