#!/usr/bin/env python3
"""Score hyp.trn against ref.trn: WER and CER with bootstrap intervals, by speaker, condition and length; confusions.

python tools/score.py --ref decoded/test/ref.trn --hyp decoded/test/hyp.trn --normalize librispeech
"""

from __future__ import annotations

import argparse
import json
import sys


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ref", required=True, help="references, NIST .trn")
    parser.add_argument("--hyp", required=True, help="hypotheses, NIST .trn")
    parser.add_argument("--normalize", default="none", help="text rules for both sides: none, librispeech or hub5")
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument(
        "--groups",
        metavar="SPEAKERS",
        help="resample speakers or conversation sides instead of utterances: a file of lines utterance-id speaker, a "
        ".tsv manifest (a file's folder is its speaker), or the ids' scheme: librispeech or switchboard",
    )
    parser.add_argument("--conditions", help="lines of utterance-id condition: also score each condition")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    from ccc_w2v.data.manifest import write_whole
    from ccc_w2v.errors import exit_on_input_error
    from ccc_w2v.evaluate.scorecard import measure, table

    @exit_on_input_error
    def run() -> None:
        report = measure(
            options.ref,
            options.hyp,
            rules=options.normalize,
            seed=options.seed,
            speakers=options.groups,
            conditions=options.conditions,
        )
        if options.json:
            write_whole(options.json, json.dumps(report, indent=2) + "\n")
        print(table(report))

    return run()


if __name__ == "__main__":
    sys.exit(main())
