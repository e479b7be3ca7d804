#!/usr/bin/env python3
"""Read every recording of a manifest, and name each line that a training would stop at or learn badly from.

    python tools/check_manifest.py data/train.tsv
    python tools/check_manifest.py data/train.tsv --out data/train_good.tsv

An error: missing, undecodable, of another rate, not mono, not as long as declared, silent, not finite. A warning:
clipped, or the same samples as an earlier line. --out writes the manifest, and the labels beside it, without the lines
of either, and a report beside it. Exit code 2 when there is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from ccc_w2v.errors import exit_on_input_error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help=".tsv manifest")
    parser.add_argument("--out", help=".tsv manifest to write without the bad lines")
    parser.add_argument("--sample-rate", type=int, default=16_000, help="Hz that all must have (default: %(default)s)")
    parser.add_argument("--min-samples", type=int, default=1, help="shortest that is accepted (default: %(default)s)")
    parser.add_argument("--max-clipped", type=float, default=0.01, help="share of samples (default: %(default)s)")
    parser.add_argument("--report", help=".json to write; with --out by default its name with .report.json")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads (default: one for each core)")
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    options = arguments()
    from ccc_w2v.data.check import check_manifest, report, write_without
    from ccc_w2v.data.manifest import all_labels, read_manifest, write_whole

    manifest = read_manifest(options.manifest)
    all_labels(manifest)  # an error in them now, not after the audio was read
    findings = check_manifest(
        manifest,
        options.sample_rate,
        min_samples=options.min_samples,
        max_clipped=options.max_clipped,
        workers=max(1, options.workers),
    )
    for finding in findings:
        print(f"{'error' if finding.kind == 'unusable' else 'warning'}: {finding.message}", file=sys.stderr)
    found = report(manifest, findings, options.sample_rate)
    wrong = {finding.entry for finding in findings}
    samples = [entry.samples for entry in manifest.entries if entry not in wrong]
    print(
        f"{options.manifest}: {found['good']} of {len(manifest)} utterances are good, {found['good_hours']:.2f} h",
        end="",
    )
    longest = [f"{end(samples) / options.sample_rate:.2f} s" for end in (min, max)] if samples else []
    print(f", {' to '.join(longest)} each" if longest else "")
    report_path = options.report or (options.out and Path(options.out).with_suffix(".report.json"))
    if options.out:
        print(f"{options.out}: {write_without(manifest, wrong, options.out)} utterances")
    if report_path:
        write_whole(report_path, json.dumps(found, indent=1) + "\n")
        print(f"{report_path}: report")
    return 2 if "unusable" in found["counts"] else 0


if __name__ == "__main__":
    sys.exit(main())
