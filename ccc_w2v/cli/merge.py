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

from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="what the shards were given as --out")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.sharding import read_shards

    command = read_shards(options.out)[0][1].command
    if command not in MERGES:
        raise InputError(f"{options.out}: its shards are of {command!r}, which this version does not merge")
    print(MERGES[command](options.out, options.overwrite))


def _segment(out: Path, overwrite: bool) -> str:
    from ccc_w2v.cli.segment import table
    from ccc_w2v.corpora.long.prepare import merge

    return table(merge(out, overwrite=overwrite))


MERGES = {"segment": _segment}
