"""Fetch room impulse responses (OpenSLR 28, 1.3 GB) or take a folder, check that every file decodes, write manifests.

python tools/prepare_rirs.py --out data/rirs
python tools/prepare_rirs.py --out data/rirs --source /corpora/RIRS_NOISES

Then task.rir_manifest=data/rirs/real.tsv with a pipeline that has the transform recorded_reverb.
"""

from __future__ import annotations

import argparse

from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder to write manifests and first channels into")
    parser.add_argument("--source", help="folder where rirs_noises.zip is unpacked; else it is fetched")
    parser.add_argument("--url", help="address of the archive, if not OpenSLR's")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.corpora.rirs import prepare

    for name, lines in prepare(options.out, source=options.source, url=options.url).items():
        print(f"{options.out}/{name}.tsv: {lines} files")
