"""Pack a corpus into few files that are read without unpacking: uncompressed zips, or tar shards for streaming.

    ccc-w2v pack data/train.tsv --out /cluster/data/train.tsv
    ccc-w2v pack data/train.tsv --out shards/train.tsv --format tar

zip: writes train_000.zip, train_001.zip ... and a manifest of slices (file.zip:offset:length) that this package and
fairseq read. tar: writes shards in the form of WebDataset, train-000000.tar ..., an index beside each, and a manifest
that this package reads, also by https or s3 (docs/scale.md); a stream may stand in place of the manifest. Labels beside
the manifest, and their dictionaries, are copied along. An interrupted call writes all zips anew, and resumes after the
last whole tar. With --shard i/n a share writes archives of its own, which `ccc-w2v merge OUT` numbers, without a copy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option
from ccc_w2v.sharding import add_shard_option

if TYPE_CHECKING:
    from ccc_w2v.data.manifest import Manifest

GIB = {"zip": 4.0, "tar": 1.0}


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("manifest", help=".tsv manifest; for tar also shards or hub:name/config/split")
    parser.add_argument("--out", required=True, help=".tsv manifest to write; the archives go beside it")
    parser.add_argument("--format", choices=sorted(GIB), default="zip", help="kind of archive (default: %(default)s)")
    parser.add_argument(
        "--sample-rate", type=int, default=16_000, help="sample rate that all must have, in Hz (default: %(default)s)"
    )
    parser.add_argument("--max-gib", type=float, help="size of an archive in GiB (default: 4 for zip, 1 for tar)")
    add_shard_option(parser)
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.data.streams import read_source

    manifest = read_source(options.manifest) if options.format == "tar" else read_manifest(options.manifest)
    if options.shard is not None:
        pack_share(options, manifest)
    else:
        print(summary(options.out, options.format, packed(options, manifest, options.out)))


def packed(options: argparse.Namespace, manifest: Manifest, out: str | Path, lines: range | None = None) -> list[Path]:
    """Pack a manifest, or a share's lines of it, into archives beside ``out``; return them."""
    from ccc_w2v.data.packing import pack
    from ccc_w2v.data.shard_packing import pack_shards

    write = pack_shards if options.format == "tar" else pack
    return write(manifest, out, options.sample_rate, max_bytes(options), lines=lines, overwrite=options.overwrite)


def pack_share(options: argparse.Namespace, manifest: Manifest) -> None:
    """Pack a share into archives of its own; the merge gives them their names in the whole."""
    from ccc_w2v.cli.shares import say_done, share_of

    out = Path(options.out)
    of = {"format": options.format, "sample rate": options.sample_rate, "max bytes": max_bytes(options)}
    how = {"overwrite": options.overwrite}
    with share_of(manifest, options.manifest, out, options.shard, "pack", of, **how) as share:
        archives = packed(options, manifest, share.folder / out.name, share.lines)
        share.options["archives"] = {path.name: path.stat().st_size for path in archives}
    say_done(out, options.shard)


def max_bytes(options: argparse.Namespace) -> int:
    """Return the size of an archive."""
    return int((GIB[options.format] if options.max_gib is None else options.max_gib) * 2**30)


def summary(out: str | Path, kind: str, archives: list[Path]) -> str:
    """Say how many archives there are, and their size."""
    size = sum(path.stat().st_size for path in archives)
    return f"{out}: {len(archives)} {'zips' if kind == 'zip' else 'shards'}, {size / 2**20:.1f} MiB"
