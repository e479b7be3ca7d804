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
def main() -> int:
    options = arguments()
    from ccc_w2v.sharding import read_shards

    shards = read_shards(options.out)
    command = shards[0][1].command
    if "words" in shards[0][1].options:
        from ccc_w2v.cli.shares import run_again

        run_again(shards[0][1])
        return 0
    if command not in MERGES:
        raise InputError(f"{options.out}: its shards are of {command!r}, which this version does not merge")
    return MERGES[command](options.out, shards, options.overwrite)


def _segment(out: Path, shards: Shards, overwrite: bool) -> int:
    from ccc_w2v.cli.segment import table
    from ccc_w2v.corpora.long.prepare import merge

    return _done(table(merge(out, overwrite=overwrite)))


def _decode(out: Path, shards: Shards, overwrite: bool) -> int:
    from ccc_w2v.decode.merge import merge_decodings

    return _done(f"{out / 'hyp.trn'}: {merge_decodings(out, shards, overwrite=overwrite)} utterances")


def _align(out: Path, shards: Shards, overwrite: bool) -> int:
    from ccc_w2v.decode.merge import merge_alignments

    return _done(f"{out}: {merge_alignments(out, shards, overwrite=overwrite)} utterances")


def _features(out: Path, shards: Shards, overwrite: bool) -> int:
    from ccc_w2v.probe.merge import merge_features

    return _done(f"{out / 'index.tsv'}: {merge_features(out, shards, overwrite=overwrite)} utterances")


def _pack(out: Path, shards: Shards, overwrite: bool) -> int:
    from ccc_w2v.cli.pack import summary
    from ccc_w2v.data.merge_packed import merge_packed

    return _done(summary(out, shards[0][1].of["format"], merge_packed(out, shards, overwrite=overwrite)))


def _check(out: Path, shards: Shards, overwrite: bool) -> int:
    from ccc_w2v.cli.check_manifest import conclude_shards

    return conclude_shards(out, shards, overwrite)


def _rescore(out: Path, shards: Shards, overwrite: bool) -> int:
    from ccc_w2v.cli.rescore import summary
    from ccc_w2v.lm.merge import merge_rescored

    return _done(summary(out, *merge_rescored(out, shards, overwrite=overwrite)))


def _done(text: str) -> int:
    print(text)
    return 0


# Each returns the command's exit code.
MERGES = {
    "segment": _segment,
    "decode": _decode,
    "align": _align,
    "features": _features,
    "pack": _pack,
    "check": _check,
    "rescore": _rescore,
}
