"""Fetch the corpus `small` (four hours of English speech, noises) from GitHub, or take folders, and write manifests.

    ccc-w2v prepare small --out data/small
    ccc-w2v prepare small --out data/small --from /corpora
    ccc-w2v prepare small --out data/small_100h --librispeech /corpora/LibriSpeech --unlabelled train-clean-100

A --from holds the repositories Speaker_partition_module, Resemblyzer, speech-to-intent-benchmark and ESC-10, unpacked
or cloned. --librispeech takes the transcribed utterances from LibriSpeech's own dev-clean if it is there, and with
--unlabelled its parts, or mini LibriSpeech's, in place of the untranscribed hours. An interrupted call resumes.
"""

from __future__ import annotations

import argparse

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--out", required=True, help="folder for manifests and downloads")
    parser.add_argument(
        "--from", dest="source", metavar="DIR", help="folder of the four repositories (default: download them)"
    )
    parser.add_argument("--librispeech", metavar="DIR", help="folder with parts of LibriSpeech or mini LibriSpeech")
    parser.add_argument("--unlabelled", default="", help="parts to pre-train on, comma-separated, as train-clean-100")
    parser.add_argument(
        "--url", dest="server", help="address that serves OWNER/REPO/tar.gz/COMMIT, if not GitHub's codeload"
    )
    add_old_spelling(parser, "--source", "source")
    add_old_spelling(parser, "--server", "server")
    return parser.parse_args()


@exit_on_input_error
def main() -> None:
    options = arguments()
    from ccc_w2v.corpora.small.prepare import prepare
    from ccc_w2v.corpora.small.sources import CODELOAD

    done = prepare(
        options.out,
        source=options.source,
        librispeech=options.librispeech,
        unlabelled=[part for part in options.unlabelled.replace(" ", "").split(",") if part],
        server=(options.server or CODELOAD).rstrip("/"),
    )
    print(f"{'list':<12}{'recordings':>12}{'hours':>8}{'known speakers':>16}")
    for name, size in done["lists"].items():
        print(f"{name:<12}{size['recordings']:>12}{size['hours']:>8.2f}{size['known_speakers']:>16}")
