"""Fetch the demo corpus (Asterisk's voice prompts, about 25 minutes of US English) and prepare it at 16 kHz.

python tools/prepare_prompts.py --out data/prompts
python tools/prepare_prompts.py --out data/prompts --source /usr/share/asterisk --languages es,fr
"""

from __future__ import annotations

import argparse

from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder to write audio, manifests and labels into")
    parser.add_argument("--source", help="folder of an unpacked release or of the installed Debian packages")
    parser.add_argument("--languages", default="", help="more unlabelled speech, comma-separated: es,fr,it,ru")
    parser.add_argument("--upstream", help="address of the folder with the release archives, if not the official one")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.corpora.prompts.prepare import prepare
    from ccc_w2v.corpora.prompts.sources import UPSTREAM

    languages = tuple(name for name in options.languages.replace(" ", "").split(",") if name)
    prepare(options.out, source=options.source, languages=languages, upstream=options.upstream or UPSTREAM)
