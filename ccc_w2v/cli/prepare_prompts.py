"""Fetch the demo corpus (Asterisk's voice prompts, about 25 minutes of US English) and prepare it at 16 kHz.

ccc-w2v prepare prompts --out data/prompts
ccc-w2v prepare prompts --out data/prompts --from /usr/share/asterisk --languages es,fr
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--out", required=True, help="folder for audio, manifests and labels")
    parser.add_argument(
        "--from", dest="source", help="folder of an unpacked release or of the installed Debian packages"
    )
    parser.add_argument(
        "--languages", default="", help="further languages as unlabelled speech, comma-separated: es,fr,it,ru"
    )
    parser.add_argument(
        "--url", dest="upstream", help="URL of the folder with the release archives (default: the official one)"
    )
    add_old_spelling(parser, "--source", "source")
    add_old_spelling(parser, "--upstream", "upstream")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.corpora.prompts.prepare import prepare
    from ccc_w2v.corpora.prompts.sources import UPSTREAM

    languages = tuple(name for name in options.languages.replace(" ", "").split(",") if name)
    prepare(options.out, source=options.source, languages=languages, upstream=options.upstream or UPSTREAM)
