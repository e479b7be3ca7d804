"""Pack a corpus into uncompressed zips that are read without unpacking, for file systems slow with many small files.

    ccc-w2v pack data/train.tsv --out /cluster/data/train.tsv

Writes train_000.zip, train_001.zip ... and a manifest of slices (file.zip:offset:length) that this package and fairseq
read; labels beside the manifest, and their dictionaries, are copied along.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import add_overwrite_option


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("manifest", help=".tsv manifest")
    parser.add_argument("--out", required=True, help=".tsv manifest to write; the zips go beside it")
    parser.add_argument(
        "--sample-rate", type=int, default=16_000, help="sample rate that all must have, in Hz (default: %(default)s)"
    )
    parser.add_argument("--max-gib", type=float, default=4.0, help="size of a zip in GiB (default: %(default)s)")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.data.packing import pack

    manifest, size = read_manifest(options.manifest), int(options.max_gib * 2**30)
    zips = pack(manifest, options.out, options.sample_rate, size, overwrite=options.overwrite)
    size = sum(path.stat().st_size for path in zips)
    print(f"{options.out}: {len(zips)} zips, {size / 2**20:.1f} MiB")
