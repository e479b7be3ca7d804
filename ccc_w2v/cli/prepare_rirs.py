"""Fetch room impulse responses (OpenSLR 28, 1.3 GB) or take a folder, check that every file decodes, write manifests.

    ccc-w2v prepare rirs --out data/rirs
    ccc-w2v prepare rirs --out data/rirs --from /corpora/RIRS_NOISES

Then task.rir_manifest=data/rirs/real.tsv with a pipeline that has the transform recorded_reverb.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--out", required=True, help="folder for manifests and first channels")
    parser.add_argument("--from", dest="source", help="folder of the unpacked rirs_noises.zip (default: download it)")
    parser.add_argument("--url", help="URL of the archive (default: OpenSLR's)")
    add_old_spelling(parser, "--source", "source")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.corpora.rirs import prepare

    for name, lines in prepare(options.out, source=options.source, url=options.url).items():
        print(f"{options.out}/{name}.tsv: {lines} files")
