"""Read every recording of a manifest, and name each line that a training would stop at or learn badly from.

    ccc-w2v check data/train.tsv
    ccc-w2v check data/train.tsv --out data/train_good.tsv

Errors: recordings that are missing, undecodable, at another rate, not mono, not as long as declared, silent or not
finite; labels with more than 1 % of symbols outside their dictionary. Warnings: clipped recordings, duplicates of an
earlier line, unknown symbols, empty labels, labels longer than their frames, recordings listed twice. --out writes the
manifest and its labels without the lines whose audio is bad, and a report beside it. Exit code 2 if there is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import exit_on_input_error
from ccc_w2v.run_folder import SETTINGS_KEY, Output, add_overwrite_option, check, claim

if TYPE_CHECKING:
    from ccc_w2v.data.check import AudioFinding
    from ccc_w2v.data.labels_check import LabelReport
    from ccc_w2v.data.manifest import Manifest


def arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("manifest", help=".tsv manifest")
    parser.add_argument("--out", help=".tsv manifest to write without the bad lines")
    parser.add_argument(
        "--sample-rate", type=int, default=16_000, help="sample rate that all must have, in Hz (default: %(default)s)"
    )
    parser.add_argument("--min-samples", type=int, default=1, help="shortest recording accepted (default: %(default)s)")
    parser.add_argument(
        "--max-clipped",
        type=float,
        default=0.01,
        help="largest share of clipped samples accepted (default: %(default)s)",
    )
    parser.add_argument("--report", help="JSON file of the findings (default with --out: its name with .report.json)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="threads (default: one per core)")
    add_old_spelling(parser, "--workers", "jobs")
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    options = arguments()
    from ccc_w2v.data.check import check_manifest, report, write_without
    from ccc_w2v.data.labels import all_labels
    from ccc_w2v.data.labels_check import check_labels
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.files import write_whole

    manifest = read_manifest(options.manifest)
    labels = all_labels(manifest)  # an error in them now, not after the audio was read
    report_path = options.report or (options.out and Path(options.out).with_suffix(".report.json"))
    output = output_of(options, manifest, labels, report_path)
    same = check(output, overwrite=options.overwrite) if output else False
    label_reports = [label_report for kind in labels if (label_report := check_labels(manifest, kind[1:]))]
    findings = check_manifest(
        manifest,
        options.sample_rate,
        min_samples=options.min_samples,
        max_clipped=options.max_clipped,
        workers=max(1, options.jobs),
    )
    print_findings(findings, label_reports, report_path)
    result = report(manifest, findings, options.sample_rate)
    result["labels"] = [warning for label_report in label_reports for warning in label_report.warnings()]
    wrong = {finding.entry for finding in findings}
    print(summary(manifest, [entry.samples for entry in manifest.entries if entry not in wrong], options.sample_rate))
    if output and not same:
        claim(output, overwrite=options.overwrite)
    if options.out:
        print(f"{options.out}: {write_without(manifest, wrong, options.out)} utterances")
    if output:
        write_whole(report_path, json.dumps({**result, SETTINGS_KEY: output.settings}, indent=1) + "\n")
        print(f"{report_path}: report")
    return 2 if "unusable" in result["counts"] else 0


def output_of(
    options: argparse.Namespace, manifest: Manifest, labels: dict[str, list[str]], report_path: str | Path | None
) -> Output | None:
    """Return what is written and what it depends on; None where nothing is."""
    from ccc_w2v.data.labels import labelled_content, listing_paths

    if not report_path:
        return None
    limits = {name: vars(options)[name] for name in ("sample_rate", "min_samples", "max_clipped")}
    written = [*(listing_paths(options.out, labels) if options.out else []), Path(report_path)]
    read = listing_paths(manifest.source, labels)
    name = Path(options.out or report_path)
    return Output(name, {**labelled_content(manifest), **limits}, Path(report_path), written, read)


def print_findings(
    findings: list[AudioFinding], label_reports: list[LabelReport], report_path: str | Path | None
) -> None:
    """Print up to three lines of each fault and how many more there are, then what is wrong with the labels."""
    from ccc_w2v.data.check import grouped

    where = f"all are in {report_path}" if report_path else "--report FILE.json lists all"
    for finding, more in grouped(findings):
        name = "error" if finding.kind == "unusable" else "warning"
        print(f"{name}: {finding.message}", file=sys.stderr)
        if more:
            print(f"{name}: {more} more lines like this one ({finding.fault}); {where}", file=sys.stderr)
    for label_report in label_reports:
        for warning in label_report.warnings():
            print(f"warning: {warning}", file=sys.stderr)


def summary(manifest: Manifest, samples: list[int], rate: int) -> str:
    """Say how many utterances are good, how many hours they are, and how long."""
    hours = sum(samples) / rate / 3600
    good = f"{manifest.source}: {len(samples)} of {len(manifest)} utterances are good, {hours:.2f} h"
    return good + (f", {min(samples) / rate:.2f} s to {max(samples) / rate:.2f} s each" if samples else "")
