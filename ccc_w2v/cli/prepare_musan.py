"""Fetch MUSAN (11 GB) or take a folder, check that every file decodes, and write manifests for augmentation.

    ccc-w2v prepare musan --out data/musan
    ccc-w2v prepare musan --out data/musan --from /corpora/musan --license public-domain,cc0,cc-by

Then task.noise_manifest=data/musan/free_sound.tsv (the paper's), task.music_manifest=data/musan/music.tsv and
task.babble_manifest=data/musan/speech.tsv. The licence of each file is in licences.tsv.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--out", required=True, help="folder to write manifests into")
    parser.add_argument("--from", dest="source", help="folder where musan.tar.gz is unpacked; else it is fetched")
    parser.add_argument("--license", default="", help="keep only files under these, comma-separated; default: all")
    parser.add_argument("--url", help="address of the archive, if not OpenSLR's")
    add_old_spelling(parser, "--source", "source")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.corpora.musan import prepare

    licences = [name for name in options.license.replace(" ", "").split(",") if name]
    for name, hours in prepare(options.out, source=options.source, licences=licences, url=options.url).items():
        print(f"{options.out}/{name}.tsv: {hours:.2f} h")
