"""What other commands measure or check: tests marked cuda, decoding, processes on one device."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from ccc_w2v.benchmark.processes import step_seconds
from ccc_w2v.compat import flashlight_text
from ccc_w2v.errors import InputError
from ccc_w2v.gpu_report.failures import in_short, last_lines, reason_of
from ccc_w2v.gpu_report.section import ReportSection, ReportSettings, Row

TESTS = Path(__file__).parents[2] / "tests"
PATIENCE_S = 600


def marked_tests(settings: ReportSettings) -> ReportSection:
    """Run the tests marked `cuda` of the checkout that this package lies in."""
    if not TESTS.is_dir():
        return ReportSection(
            remarks=[f"not run: {TESTS} is not there; the tests come with the repository, not with a wheel"]
        )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={report}"]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, str(TESTS / "cuda")],
            cwd=TESTS.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        if not report.is_file():
            output = run.stdout + run.stderr
            remark = f"pytest ended with {run.returncode}: {in_short(output)}"
            return ReportSection(remarks=[remark], failed=True, details=last_lines(output))
        cases = list(ElementTree.parse(report).iter("testcase"))
    rows = [_outcome(case) for case in cases]
    counts = {name: sum(row["outcome"] == name for row in rows) for name in ("passed", "failed", "skipped")}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    return ReportSection(rows, [summary], failed=bool(counts["failed"]) or not rows)


def _outcome(case: ElementTree.Element) -> Row:
    row: Row = {"test": f"{case.get('classname')}.{case.get('name')}", "outcome": "passed"}
    for kind, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        element = case.find(kind)
        if element is not None:
            row |= {"outcome": outcome, "message": in_short(element.get("message") or element.text or "")}
            if outcome == "failed":
                row["details"] = last_lines(element.text or "")
    return row


def decoding(settings: ReportSettings) -> ReportSection:
    """Run `ccc-w2v benchmark decode`: greedy and beam decoding beside transformers and fairseq on the device."""
    from ccc_w2v.benchmark import decode

    tiny, remarks = settings.size == "tiny", []
    options = {"utterances": 2 if tiny else 12, "rounds": 1 if tiny else 3, "beam_rounds": 1 if tiny else 2}
    try:
        flashlight_text()
    except InputError as error:
        options["beam_rounds"] = 0
        remarks.append(f"Beam search was not measured: {error}.")
    try:
        measured = decode.run(
            argparse.Namespace(
                size=settings.size,
                device=settings.device,
                beams=[5] if tiny else [50],
                checkpoint=None,
                manifest=None,
                threads=None,
                **options,
            )
        )
    except ImportError as error:
        return ReportSection(remarks=[f"not measured: {reason_of(error)}"])
    return ReportSection([{"measured": name, "value": value} for name, value in measured.items()], remarks)


def processes(settings: ReportSettings) -> ReportSection:
    """Measure an update of one process and of two on this one device: NCCL on a GPU, gloo on a CPU."""
    backend, rows = ("nccl" if settings.device == "cuda" else "gloo"), []
    for count in (1, 2):
        row: Row = {"backend": backend, "processes": count}
        try:
            row["seconds"] = round(step_seconds(settings.step(), count, settings.rounds, backend), 4)
        except Exception as error:  # NCCL may refuse two processes on one device; what it says is the result
            row["seconds"] = reason_of(error)
        rows.append(row)
    return ReportSection(rows, ["Each process has a batch of its own; gradients are added up in one buffer."])
