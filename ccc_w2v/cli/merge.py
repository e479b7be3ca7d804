"""Put the shards of a long command together, once all are there and belong together.

    ccc-w2v segment podcasts --out data --shard 1/2
    ccc-w2v segment podcasts --out data --shard 2/2
    ccc-w2v merge data

OUT is what the shards were given as --out; its shards lie beside it in OUT.shards, and stay there. Refuses shards that
are missing or unfinished, that were made of other inputs, with other settings or by another version, and tells which.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option

if TYPE_CHECKING:
    from ccc_w2v.data.merging import Shards


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("out", type=Path, help="what the shards were given as --out")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.sharding import read_shards

    shards = read_shards(options.out)
    command = shards[0][1].command
    if "words" in shards[0][1].options:
        from ccc_w2v.cli.shares import run_again

        run_again(shards[0][1])
    elif command in MERGES:
        print(MERGES[command](options.out, shards, options.overwrite))
    else:
        raise InputError(f"{options.out}: its shards are of {command!r}, which this version does not merge")


def _segment(out: Path, shards: Shards, overwrite: bool) -> str:
    from ccc_w2v.cli.segment import table
    from ccc_w2v.corpora.long.prepare import merge

    return table(merge(out, overwrite=overwrite))


def _decode(out: Path, shards: Shards, overwrite: bool) -> str:
    from ccc_w2v.decode.merge import merge_decodings

    return f"{out / 'hyp.trn'}: {merge_decodings(out, shards, overwrite=overwrite)} utterances"


def _align(out: Path, shards: Shards, overwrite: bool) -> str:
    from ccc_w2v.decode.merge import merge_alignments

    return f"{out}: {merge_alignments(out, shards, overwrite=overwrite)} utterances"


def _features(out: Path, shards: Shards, overwrite: bool) -> str:
    from ccc_w2v.probe.merge import merge_features

    return f"{out / 'index.tsv'}: {merge_features(out, shards, overwrite=overwrite)} utterances"


MERGES = {"segment": _segment, "decode": _decode, "align": _align, "features": _features}
