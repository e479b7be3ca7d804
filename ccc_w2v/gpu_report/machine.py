"""The device, what it multiplies at most, and which attention kernel takes what the model has."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

import ccc_w2v
from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.step import DTYPES, Bench
from ccc_w2v.gpu_report.failures import reason_of
from ccc_w2v.gpu_report.section import ReportSection, ReportSettings, Row
from ccc_w2v.training.utilisation import matmul_flops_per_second

# A kernel's name holds one of these; "math" is what is left: plain matrix products and a softmax.
KERNELS = {"cudnn": "cuDNN", "flash": "flash", "efficient": "memory-efficient"}


def machine(settings: ReportSettings) -> ReportSection:
    """Name the device and the versions."""
    row: Row = {"device": measure.machine(settings.torch_device)}
    if settings.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        row |= {"memory [GiB]": round(properties.total_memory / 2**30, 1), "CUDA": torch.version.cuda}
        row |= {"cuDNN": torch.backends.cudnn.version(), "capability": f"{properties.major}.{properties.minor}"}
    return ReportSection([row | {"system": platform.platform(), "ccc_w2v": ccc_w2v.__version__}])


def matmul_rates(settings: ReportSettings) -> ReportSection:
    """Measure the rate of a large matrix product in each precision: the practical limit of the device."""
    width = 8192 if settings.device == "cuda" else 512
    rows = []
    for precision in DTYPES:
        try:
            rate = matmul_rate(settings, precision)
            rows.append({"precision": precision, "width": width, "TFLOP/s": round(rate / 1e12, 3)})
        except RuntimeError as error:
            rows.append({"precision": precision, "width": width, "TFLOP/s": reason_of(error)})
    return ReportSection(rows, ["fp32 is IEEE float32, without TF32, here and in the steps."])


def matmul_rate(settings: ReportSettings, precision: str) -> float:
    """Return the FLOP/s of a square product of 8192 on a GPU, 512 on a CPU."""
    width = 8192 if settings.device == "cuda" else 512
    with without_tf32():
        return matmul_flops_per_second(DTYPES[precision], settings.torch_device, width)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Multiply float32 as float32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def attention(settings: ReportSettings) -> ReportSection:
    """Tell which attention kernel ran on full crops, with and without the padding to an even number of frames."""
    rows = []
    for precision in ("fp32", "bf16"):
        for multiple in (1, 2):
            # The crops of the LibriSpeech recipe: 781 frames.
            samples = 250_000 if settings.device == "cuda" else 16_400
            step = settings.step(precision=precision, utterances=1, seconds=samples / 16_000)
            bench = Bench(step, model={"required_seq_len_multiple": multiple})
            row = {"precision": precision, "required_seq_len_multiple": multiple, "samples": samples}
            rows.append({**row, "kernel": _kernel(bench)})
    return ReportSection(rows)


def _kernel(bench: Bench) -> str:
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (bench.device.type == "cuda")
    with profile(activities=activities) as profiled, torch.no_grad():
        bench.criterion(bench.model, bench.sample)
    names = [event.key for event in profiled.key_averages() if "attention" in event.key and "scaled_dot" in event.key]
    for part, kernel in KERNELS.items():
        if any(part in name for name in names):
            return kernel
    return "math" if names else "none"
