"""Read every recording of a manifest, and name each line that a training would stop at or learn badly from.

    ccc-w2v check data/train.tsv
    ccc-w2v check data/train.tsv --out data/train_good.tsv

Errors: recordings that are missing, undecodable, at another rate, not mono, not as long as declared, silent or not
finite; labels with more than 1 % of symbols outside their dictionary. Warnings: clipped recordings, duplicates of an
earlier line, unknown symbols, empty labels, labels longer than their frames, recordings listed twice. --out writes the
manifest and its labels without the lines whose audio is bad, and a report beside it. Exit code 2 if there is an error.
With --shard i/n a share is read; `ccc-w2v merge OUT` (or the report) compares all lines, and writes what one call does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ccc_w2v.cli.options import add_old_spelling, command_parser
from ccc_w2v.errors import InputError, exit_on_input_error
from ccc_w2v.run_folder import SETTINGS_KEY, Output, add_overwrite_option, check, claim
from ccc_w2v.sharding import add_shard_option

if TYPE_CHECKING:
    from ccc_w2v.data.check import AudioFinding, AudioLook
    from ccc_w2v.data.labels_check import LabelReport
    from ccc_w2v.data.manifest import Manifest
    from ccc_w2v.data.merging import Shards


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
    add_shard_option(parser)
    add_overwrite_option(parser)
    return parser.parse_args()


@exit_on_input_error
def main() -> int:
    options = arguments()
    from ccc_w2v.data.check import look
    from ccc_w2v.data.labels import all_labels
    from ccc_w2v.data.manifest import read_manifest

    manifest = read_manifest(options.manifest)
    all_labels(manifest)  # an error in them now, not after the audio was read
    jobs = max(1, options.jobs)
    if options.shard is not None:
        return look_at_shard(options, manifest, jobs)
    looks = look(manifest, range(len(manifest)), options.sample_rate, options.min_samples, jobs)
    return conclude(options, manifest, looks)


def look_at_shard(options: argparse.Namespace, manifest: Manifest, jobs: int) -> int:
    """Read the recordings of a share, and keep what they have shown for the merge."""
    from ccc_w2v.cli.shares import say_done, share_of
    from ccc_w2v.data.check_shares import LOOKS, look_at_share

    out = options.out or options.report
    if not out:
        raise InputError("--shard: name --out or --report, beside which the shards are kept and which the merge writes")
    how = {name: vars(options)[name] for name in ("sample_rate", "min_samples", "max_clipped")}
    kept = {**how, "manifest": options.manifest, "out": options.out, "report": options.report}
    shard, overwrite = options.shard, options.overwrite
    of = {**how, "report": options.report}
    with share_of(manifest, options.manifest, Path(out), shard, "check", of, overwrite=overwrite) as share:
        if share.finished:  # a check reads everything each time; what was stopped continues
            (share.folder / LOOKS).unlink(missing_ok=True)
        share.options |= {"folder": os.getcwd(), "options": kept}
        limits = (options.sample_rate, options.min_samples, jobs)
        bad = look_at_share(manifest, share.lines, share.folder, *limits, overwrite=overwrite)
    print(f"{len(share.lines) - bad} of {len(share.lines)} recordings can be used")
    say_done(out, shard)
    return 0


def conclude_shards(out: Path, shards: Shards, overwrite: bool) -> int:
    """Write and print of all shares together what a check without shares does; returns its exit code."""
    from ccc_w2v.cli.shares import folder_of
    from ccc_w2v.data.check_shares import looks_of
    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.data.merging import whole_manifest

    record, out = shards[0][1], out.resolve()
    whole_manifest(shards)  # it must be the one that was read
    looks = looks_of([(folder.resolve(), share) for folder, share in shards])
    with folder_of(record):
        options = argparse.Namespace(**record.options["options"], overwrite=overwrite)
        setattr(options, "out" if options.out else "report", out)
        return conclude(options, read_manifest(options.manifest), looks)


def conclude(options: argparse.Namespace, manifest: Manifest, looks: Iterable[AudioLook]) -> int:
    """Compare what the recordings have shown, check the labels, print and write all; returns the exit code."""
    from ccc_w2v.data.check import compare, report, write_without
    from ccc_w2v.data.labels import all_labels
    from ccc_w2v.data.labels_check import check_labels
    from ccc_w2v.files import write_whole

    labels = all_labels(manifest)
    report_path = options.report or (options.out and Path(options.out).with_suffix(".report.json"))
    for path in (options.out, report_path):
        if path and not Path(path).parent.is_dir():
            raise InputError(f"{path}: its folder does not exist; make it, or name another one")
    output = output_of(options, manifest, labels, report_path)
    same = check(output, overwrite=options.overwrite) if output else False
    label_reports = [label_report for kind in labels if (label_report := check_labels(manifest, kind[1:]))]
    findings = compare(manifest, looks, options.max_clipped)
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
