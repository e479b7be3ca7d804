"""Pack a corpus into few files that are read without unpacking: uncompressed zips, or tar shards for streaming.

    ccc-w2v pack data/train.tsv --out /cluster/data/train.tsv
    ccc-w2v pack data/train.tsv --out shards/train.tsv --format tar

zip: writes train_000.zip, train_001.zip ... and a manifest of slices (file.zip:offset:length) that this package and
fairseq read. tar: writes shards in the form of WebDataset, train-000000.tar ..., an index beside each, and a manifest
that this package reads, also by https or s3 (docs/scale.md); a stream may stand in place of the manifest. Labels beside
the manifest, and their dictionaries, are copied along. An interrupted call writes all zips anew, and resumes after the
last whole tar.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option

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
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.data.packing import pack
    from ccc_w2v.data.shard_packing import pack_shards
    from ccc_w2v.data.streams import read_source

    most = int((GIB[options.format] if options.max_gib is None else options.max_gib) * 2**30)
    if options.format == "tar":
        manifest = read_source(options.manifest)
        archives = pack_shards(manifest, options.out, options.sample_rate, most, overwrite=options.overwrite)
    else:
        manifest = read_manifest(options.manifest)
        archives = pack(manifest, options.out, options.sample_rate, most, overwrite=options.overwrite)
    size = sum(path.stat().st_size for path in archives)
    kind = "zips" if options.format == "zip" else "shards"
    print(f"{options.out}: {len(archives)} {kind}, {size / 2**20:.1f} MiB")
