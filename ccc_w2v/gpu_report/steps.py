"""Training steps of wav2vec 2.0, ours with one and two contexts and the un-fused formulation, in each precision."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.launches import kernels
from ccc_w2v.benchmark.step import ONE_CONTEXT, OURS, UNFUSED, WAV2VEC2, Bench
from ccc_w2v.gpu_report.failures import reason_of
from ccc_w2v.gpu_report.machine import matmul_rate, without_tf32
from ccc_w2v.gpu_report.section import ReportSection, ReportSettings, Row

# Hours of 400,000 updates of BASE, by their authors; ours would process 1.4M samples on each of 64 devices per update.
UPDATES = 400_000
SAMPLES_OF_UPDATE = 64 * 1_400_000
PUBLISHED = [
    ("NVIDIA's wav2vec 2.0 (DeepLearningExamples), TF32", "8 A100", 64.9),
    ("NVIDIA's wav2vec 2.0 (DeepLearningExamples), bf16", "8 A100", 48.1),
    ("SpidR (arXiv 2512.20308, paper/results/speed.csv), compiled", "16 A100", 23),
    ("SpidR, compiled", "16 H100", 15),
    ("minimal_hubert, one iteration of HuBERT", "16 H100", 10),
]


def steps(precision: str, compiled: bool) -> Callable[[ReportSettings], ReportSection]:
    """Return the section of steps in a precision, with or without torch.compile of our Transformer's layers."""

    def section(settings: ReportSettings) -> ReportSection:
        with without_tf32():
            bench = Bench(settings.step(precision=precision, compile=compiled))
            functions: dict[str, Callable[[], object]] = {ONE_CONTEXT: bench.one_context, OURS: bench.ours}
            if not compiled:
                functions = {WAV2VEC2: bench.wav2vec2, **functions, UNFUSED: bench.unfused}
            limit = matmul_rate(settings, precision)
            rows = [_row(settings, name, function, limit) for name, function in functions.items()]
        return ReportSection(rows)

    return section


def _row(settings: ReportSettings, name: str, function: Callable[[], object], limit: float) -> Row:
    """Measure a step, or say why it cannot be; a step that does not fit leaves room for the next."""
    try:
        taken = measure.interleaved({name: function}, settings.rounds, settings.torch_device)[name]
        peak = measure.peak_memory(function, settings.torch_device)
        flops = measure.flops(function)
    except Exception as error:  # whatever it is, it is the row's result
        if settings.device == "cuda":
            torch.cuda.empty_cache()
        return {"step": name, "seconds": reason_of(error)}
    seconds = statistics.median(taken)
    return {
        "step": name,
        "seconds": round(seconds, 4),
        "peak memory [GiB]": round(peak / 2**30, 3),
        "hours of audio per device hour": round(settings.samples / 16_000 / seconds, 1),
        "TFLOP/s": round(flops / seconds / 1e12, 3),
        "of the matmul rate": round(flops / seconds / limit, 3),
    }


def started_kernels(settings: ReportSettings) -> ReportSection:
    """Count the kernels that an update starts, by its parts: their number bounds a step in half precision."""
    bench = Bench(settings.step(precision="bf16"))
    functions = {WAV2VEC2: bench.wav2vec2, ONE_CONTEXT: bench.one_context, OURS: bench.ours, UNFUSED: bench.unfused}
    rows: list[Row] = []
    for name, function in functions.items():
        try:
            function()  # builds its model when first called, which is no part of an update
        except Exception as error:  # whatever it is, it is the row's result
            rows.append({"step": name, "kernels": reason_of(error)})
            continue
        with bench.ranges():
            counts = kernels(function, settings.torch_device)
        parts = {part.removeprefix("ccc.").replace("_", " "): count for part, count in sorted(counts.items())}
        rows.append({"step": name, "kernels": sum(counts.values()), **parts})
    return ReportSection(rows, ["Forward, criterion and backward; one for each operation that computes or copies."])


def published(settings: ReportSettings) -> ReportSection:
    """Set published times of 400,000 updates beside the hours of audio per device hour that they come to."""
    hours = SAMPLES_OF_UPDATE / 16_000 / 3600 * UPDATES
    rows: list[Row] = []
    for name, devices, taken in PUBLISHED:
        row: Row = {"training": name, "devices": devices, "hours for 400,000 updates": taken}
        if name.startswith("NVIDIA"):
            row["hours of audio per device hour, at most"] = round(hours / (int(devices.split()[0]) * taken))
        rows.append(row)
    return ReportSection(
        rows,
        [
            "NVIDIA's updates are this recipe's: at most 1.556 h of audio; how full its batches are is not published. "
            "The others' updates hold another amount of audio, so that only their time is told.",
            f"Ours: {hours:,.0f} h / (devices x hours of audio per device hour of the tables of steps).",
        ],
    )


def determinism(settings: ReportSettings) -> ReportSection:
    """Measure a step with deterministic algorithms beside one without, and whether gradients repeat bit for bit."""
    from ccc_w2v.training.determinism import use_deterministic_algorithms

    bench, rows = Bench(settings.step(precision="fp32")), []
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    try:
        for deterministic in (False, True):
            if deterministic:
                use_deterministic_algorithms()
            taken = measure.interleaved({"step": bench.ours}, settings.rounds, settings.torch_device)["step"]
            first, second = (_gradients(bench) for _ in range(2))
            same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
            row = {"task.deterministic": deterministic, "seconds": round(statistics.median(taken), 4)}
            rows.append({**row, "gradients repeat bit for bit": same})
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.deterministic = before[1]
    cost = rows[1]["seconds"] / rows[0]["seconds"]
    return ReportSection(rows, [f"Deterministic algorithms take {cost:.2f} times as long."], failed=not same)


def _gradients(bench: Bench) -> list[Any]:
    bench.model.zero_grad()
    # One dropout for both: torch's own generators.
    with torch.random.fork_rng(devices=[bench.device] if bench.device.type == "cuda" else []):
        torch.manual_seed(1)
        bench.criterion(bench.model, bench.sample)[0].backward()
    return [parameter.grad.clone() for parameter in bench.model.parameters() if parameter.grad is not None]
