#!/usr/bin/env python3
"""Score hyp.trn against ref.trn: word and character error rate with bootstrap intervals, sentence error rate.

python tools/score.py --ref decoded/test/ref.trn --hyp decoded/test/hyp.trn --normalize librispeech
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

LEVEL = 0.95
RESAMPLES = 10_000
ERROR_KINDS = ("substitutions", "deletions", "insertions")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ref", required=True, help="references, NIST .trn")
    parser.add_argument("--hyp", required=True, help="hypotheses, NIST .trn")
    parser.add_argument("--normalize", default="none", help="text rules for both sides: none or librispeech")
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--groups", help="lines of utterance-id speaker: resample speakers instead of utterances")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return every number of the report, as plain data."""
    import rapidfuzz

    import ccc_w2v
    from ccc_w2v.evaluate.normalize import normalize
    from ccc_w2v.evaluate.significance import read_groups
    from ccc_w2v.evaluate.wer import read_trn, score

    references, hypotheses = (
        {utterance: normalize(text, options.normalize) for utterance, text in read_trn(path).items()}
        for path in (options.ref, options.hyp)
    )
    groups = read_groups(options.groups, list(references)) if options.groups else None
    resampled = "speakers" if groups else "utterances"
    words, characters = (score(references, hypotheses, unit) for unit in ("word", "char"))
    return {
        "utterances": len(references),
        "wer": rate(words, groups, options.seed),
        "cer": rate(characters, groups, options.seed),
        "ser": words.sentence_error_rate,
        "bootstrap": {"of": resampled, "level": LEVEL, "resamples": RESAMPLES, "seed": options.seed},
        "normalization": options.normalize,
        "version": f"ccc-w2v {ccc_w2v.__version__}, rapidfuzz {rapidfuzz.__version__}",
    }


def rate(scored: Any, groups: list[str] | None, seed: int) -> dict[str, Any]:
    """Return a Score's error rate with counts and interval; ``units`` is its number of words or characters."""
    from ccc_w2v.data.randomness import generator_for
    from ccc_w2v.evaluate.significance import bootstrap_interval

    errors, units = zip(*((counts.errors, counts.words) for counts in scored.utterances.values()), strict=True)
    generator = generator_for(seed, f"bootstrap {scored.unit}")
    interval = bootstrap_interval(errors, units, groups, generator=generator, resamples=RESAMPLES, level=LEVEL)
    counts = {key: getattr(scored.total, key) for key in ERROR_KINDS}
    return {"units": scored.total.words, **counts, "rate": scored.error_rate, "interval": interval}


def table(report: dict[str, Any]) -> str:
    """Lay the report out for people."""
    lines = [f"{'':<16}{'N':>8}{'S':>8}{'D':>8}{'I':>8}{'rate':>10}   {LEVEL:.0%} interval"]
    for key, name in (("wer", "words (WER)"), ("cer", "characters (CER)")):
        row = report[key]
        counts = "".join(f"{row[column]:>8}" for column in ("units", *ERROR_KINDS))
        interval = " to ".join(f"{bound:.2%}" for bound in row["interval"] or ()) or "none: too little data"
        lines.append(f"{name:<16}{counts}{row['rate']:>10.2%}   {interval}")
    lines.append(f"sentences with errors (SER) {report['ser']:.2%} of {report['utterances']} utterances")
    lines.append("interval: {resamples} bootstrap resamples of {of}, seed {seed}".format(**report["bootstrap"]))
    return "\n".join([*lines, f"normalisation: {report['normalization']}; scored by {report['version']}"])


def main() -> int:
    options = arguments()
    from ccc_w2v.data.manifest import write_whole
    from ccc_w2v.errors import exit_on_input_error

    @exit_on_input_error
    def run() -> None:
        report = measure(options)
        if options.json:
            write_whole(options.json, json.dumps(report, indent=2) + "\n")
        print(table(report))

    return run()


if __name__ == "__main__":
    sys.exit(main())
