"""Run the sections, keep each result as soon as it is there, and write report.json and report.md."""

from __future__ import annotations

import dataclasses
import json
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccc_w2v.files import write_whole
from ccc_w2v.gpu_report.augmentation import augmentation
from ccc_w2v.gpu_report.failures import last_lines, reason_of
from ccc_w2v.gpu_report.machine import attention, machine, matmul_rates
from ccc_w2v.gpu_report.others import decoding, marked_tests, processes
from ccc_w2v.gpu_report.section import Measure, ReportSection, ReportSettings
from ccc_w2v.gpu_report.steps import determinism, published, steps
from ccc_w2v.run_folder import Output, claim, keep_record

# In this order: what is right before what is fast, and the steps that everyone asks for before the rest.
SECTIONS: dict[str, tuple[str, Measure]] = {
    "machine": ("The machine", machine),
    "tests": ("Tests marked cuda", marked_tests),
    "matmul": ("The rate of a matrix product", matmul_rates),
    "attention": ("The attention kernel on full crops", attention),
    **{
        f"steps_{precision}{'_compiled' if compiled else ''}": (
            f"Steps in {precision}{', our layers compiled' if compiled else ''}",
            steps(precision, compiled),
        )
        for precision in ("bf16", "fp16", "fp32")
        for compiled in (False, True)
    },
    "published": ("Published trainings", published),
    "determinism": ("Deterministic algorithms", determinism),
    "augmentation": ("Augmentation on the device", augmentation),
    "decoding": ("Decoding beside transformers and fairseq", decoding),
    "processes": ("Processes on one device", processes),
}


def write_report(settings: ReportSettings, out: Path, minutes: float, names: list[str], *, overwrite: bool) -> bool:
    """Measure the sections that ``out`` does not hold yet, as long as there is time; returns whether all is well.

    A section begun in time is finished. The report is written after each, so that it is whole whenever the command is
    killed; the same command goes on with what is missing.
    """
    record = out / "settings.json"
    output = Output(out, {"command": "gpu-report", **dataclasses.asdict(settings)}, record, [out])
    claim(output, overwrite=overwrite)
    (out / "sections").mkdir(parents=True, exist_ok=True)
    keep_record(output)
    well, began = _write(settings, out), time.monotonic()
    for name in names:
        kept = out / "sections" / f"{name}.json"
        if kept.is_file():
            print(f"{name}: measured before", flush=True)
            continue
        if time.monotonic() - began > 60 * minutes:
            print(f"{name}: not begun, the {minutes:g} minutes are over; the same command goes on", flush=True)
            continue
        print(f"{name} ...", flush=True)
        section, seconds = _measured(SECTIONS[name][1], settings)
        write_whole(kept, json.dumps({**dataclasses.asdict(section), "seconds": round(seconds, 1)}, indent=1) + "\n")
        well = _write(settings, out)
    return well


def _measured(measure: Measure, settings: ReportSettings) -> tuple[ReportSection, float]:
    began = time.monotonic()
    try:
        section = measure(settings)
    except Exception as error:  # one section's failure is a result too, and must not cost the others
        told = last_lines("".join(traceback.format_exception(error)))
        section = ReportSection(remarks=[f"failed: {reason_of(error)}"], failed=True, details=told)
    return section, time.monotonic() - began


def _write(settings: ReportSettings, out: Path) -> bool:
    kept = {name: out / "sections" / f"{name}.json" for name in SECTIONS}
    results = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in kept.items() if path.is_file()}
    content: dict[str, Any] = {"settings": dataclasses.asdict(settings), "sections": results}
    content["missing"] = [name for name in SECTIONS if name not in results]
    write_whole(out / "report.json", json.dumps(content, indent=1) + "\n")
    write_whole(out / "report.md", markdown(content))
    return not content["missing"] and not any(result["failed"] for result in results.values())


def markdown(content: Mapping[str, Any]) -> str:
    """Return the report as Markdown, from what report.json holds."""
    settings = content["settings"]
    seconds = settings["samples"] / 16_000
    lines = [
        "# GPU report",
        "",
        f"`ccc-w2v gpu-report`: {settings['size']} on {settings['device']}, batches of {settings['utterances']} "
        f"utterances and {seconds:.1f} s in all, medians of {settings['rounds']} calls.",
    ]
    for name, (title, _) in SECTIONS.items():
        result = content["sections"].get(name)
        lines += ["", f"## {title}", ""]
        if result is None:
            lines.append("Not measured yet.")
            continue
        lines += ["**Something is wrong here.**", ""] if result["failed"] else []
        lines += _table(result["rows"])
        lines += ["", *result["remarks"]] if result["rows"] else result["remarks"]
        lines += ["", f"Took {result['seconds']:.0f} s."]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "details"]
    if not names:
        return []
    cells = [[str(row.get(name, "")).replace("|", "/").replace("\n", " ") for name in names] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *cells)]
