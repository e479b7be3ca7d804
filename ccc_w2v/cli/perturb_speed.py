"""Add speed-perturbed copies of a labelled set, for fine-tuning on little data.

    ccc-w2v speed data/train.tsv --factors 0.9,1,1.1 --out data/train_speed.tsv

Fine-tune with dataset.train_subset=train_speed. Labels beside the manifest, and their dictionaries, are copied along.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import command_parser, parse_subject
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option
from ccc_w2v.sharding import add_shard_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("manifest", nargs="?", metavar="MANIFEST", help=".tsv manifest to copy")
    parser.add_argument("--factors", default="0.9,1,1.1", help="comma-separated; 1.1 is faster (default: %(default)s)")
    parser.add_argument("--out", required=True, help=".tsv manifest to write; audio goes into a folder of its name")
    add_shard_option(parser)
    add_overwrite_option(parser)
    return parse_subject(parser, "manifest", "--manifest")


@exit_on_input_error
def main() -> None:
    options = arguments()
    try:
        factors = tuple(float(factor) for factor in options.factors.split(","))
    except ValueError as error:
        raise InputError(f"--factors {options.factors}: expected numbers like 0.9,1,1.1") from error
    from ccc_w2v.cli.shares import keep_conversion
    from ccc_w2v.corpora.speed import copy_share, perturb_speed

    if options.shard:
        items, of = copy_share(options.manifest, factors, options.out, options.shard, overwrite=options.overwrite)
        keep_conversion(options.out, options.shard, "speed", items, of)
        return
    count = perturb_speed(options.manifest, factors, options.out, overwrite=options.overwrite)
    print(f"{options.out}: {count} utterances")
