#!/usr/bin/env python3
"""Fetch the demo corpus (Asterisk's voice prompts, about 25 minutes of US English) and prepare it at 16 kHz.

python tools/prepare_prompts.py --out data/prompts
python tools/prepare_prompts.py --out data/prompts --source /usr/share/asterisk --languages es,fr
"""

from __future__ import annotations

import argparse
import sys


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder to write audio, manifests and labels into")
    parser.add_argument("--source", help="folder of an unpacked release or of the installed Debian packages")
    parser.add_argument("--languages", default="", help="more unlabelled speech, comma-separated: es,fr,it,ru")
    parser.add_argument("--upstream", help="address of the folder with the release archives, if not the official one")
    return parser.parse_args()


def table(splits: dict[str, dict[str, float]]) -> str:
    """Return one line per list: utterances, minutes, words, utterances of more than one word."""
    lines = [f"{'list':<16}{'utterances':>12}{'minutes':>10}{'words':>8}{'multi-word':>12}"]
    for name, size in splits.items():
        words, multi = (size.get(key, "-") for key in ("words", "multi_word"))
        lines.append(f"{name:<16}{size['utterances']:>12}{size['minutes']:>10.2f}{words:>8}{multi:>12}")
    return "\n".join(lines)


def main() -> int:
    options = arguments()
    from ccc_w2v.corpora.prompt_sources import UPSTREAM
    from ccc_w2v.corpora.prompts import prepare
    from ccc_w2v.errors import exit_on_input_error

    @exit_on_input_error
    def run() -> None:
        languages = tuple(name for name in options.languages.replace(" ", "").split(",") if name)
        upstream = options.upstream or UPSTREAM
        print(table(prepare(options.out, source=options.source, languages=languages, upstream=upstream)["splits"]))

    return run()


if __name__ == "__main__":
    sys.exit(main())
