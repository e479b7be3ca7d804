"""Time and memory of functions that are compared with one another, on a CPU or a GPU."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

Functions = Mapping[str, Callable[[], object]]


def interleaved(
    functions: Functions, rounds: int, device: torch.device, *, quiet: bool = False
) -> dict[str, list[float]]:
    """Run each function once per round, in turn, after a round to warm up; return the seconds that each call took.

    Whatever else the machine does falls on all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    with tqdm(
        total=(rounds + 1) * len(functions),
        desc="measuring",
        unit=" calls",
        mininterval=1,
        dynamic_ncols=True,
        disable=quiet,
    ) as bar:
        for turn in range(rounds + 1):
            for name, function in functions.items():
                bar.set_postfix_str(name, refresh=False)
                taken = timed(function, device)
                if turn > 0:
                    seconds[name].append(taken)
                bar.update()
    return seconds


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes until the device has finished it."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(function: Callable[[], object], device: torch.device) -> int:
    """Return how many bytes of tensors a call holds at once at most, beyond those that exist before it."""
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    allocated = most = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            allocated += event.nbytes()
            most = max(most, allocated)
    return most


def range_seconds(function: Callable[[], object], names: list[str], device: torch.device) -> dict[str, float]:
    """Return the seconds that a call spends inside each of the named profiler ranges, on the device if it is a GPU."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities) as profiled:
        function()
        synchronize(device)
    events = {event.key: event for event in profiled.key_averages()}
    attribute = "device_time_total" if device.type == "cuda" else "cpu_time_total"
    return {name: getattr(events[name], attribute) / 1e6 if name in events else 0.0 for name in names}


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Return the median of the ratios of calls that ran in the same round."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def flops(function: Callable[[], object]) -> int:
    """Return the floating-point operations of a call's matrix products and convolutions, without torch.compile."""
    # What compiled code calls is not counted.
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def machine(device: torch.device) -> str:
    """Describe what was measured on: processor or GPU, threads, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    threads = f"{torch.get_num_threads()} threads"
    return f"{name}, {threads}, Python {platform.python_version()}, torch {torch.__version__}"
