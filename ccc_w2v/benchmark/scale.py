"""`scale`: how a step's time and memory grow with each thing that one may want more of, and the loader's rate."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.benchmark import loader, measure
from ccc_w2v.benchmark.options import check_above_zero, numbers
from ccc_w2v.benchmark.processes import step_seconds
from ccc_w2v.benchmark.scale_plot import plot
from ccc_w2v.benchmark.sizes import SIZES
from ccc_w2v.benchmark.step import Bench
from ccc_w2v.freed_memory import keep_freed_memory

# Below this exponent a curve is called linear: constant costs bend it down, noise and caches a little up.
LINEAR = 1.15
PARTS = ("feature encoder", "Transformer", "ccc.quantizer", "ccc.clustering", "ccc.negatives_and_logits", "ccc.signals")
REASONS = {
    "utterances": "each utterance is as much work as the last: what grows faster are the caches' misses",
    "seconds": "attention and the contrastive similarities compare all frames of an utterance with one another, T x T",
    "negatives": "every logit is one more gathered similarity; the similarities themselves do not grow",
    "clusters": "each iteration of k-means compares all points with all centroids, and k-means++ draws one at a time",
    "codes": "the quantizer's logits, noise and one-hot choices are (frames, groups, codes)",
    "processes": "processes beyond the cores share them, and each update adds up all gradients over gloo",
}
LISTS = {
    "utterances": ("1,2,4,8", "in the batch"),
    "seconds": ("2.5,5,10,20", "of each utterance"),
    "negatives": ("25,50,100,200,400", "per masked frame"),
    "clusters": ("4,8,16,32,64", "of the batch's targets, by criterion.cluster_factor"),
    "codes": ("80,160,320,640", "of each group of the codebook"),
    "processes": ("1,2,4", "over gloo, each with a thread and a batch of its own"),
    "workers": ("0,1,2", "of the data loader"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark scale`."""
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="model (default: small)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of weights and inputs")
    parser.add_argument("--rounds", type=int, default=5, help="measured calls of each (default: 5)")
    parser.add_argument("--pipeline", default="paper", help="augmentation of the loader's batches (default: paper)")
    parser.add_argument("--plot", type=Path, help="write the curves as a PNG here")
    for name, (values, text) in LISTS.items():
        parser.add_argument(f"--{name}", default=values, help=f"{text}; empty: not measured (default: {values})")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure one axis at a time around 4 x 10 s; print tables, name what grows faster than linear, draw the plot."""
    check_above_zero(args, "rounds")
    axes: dict[str, list[Any]] = {axis: _values(axis, getattr(args, axis)) for axis in LISTS}
    keep_freed_memory()
    print(f"{args.size}, {args.precision}, around 4 x 10 s, {measure.machine(torch.device(args.device))}")
    curves: dict[str, dict[str, Any]] = {}
    for axis, values in axes.items():
        if values:
            curves[axis] = _measure_axis(args, axis, values)
            _print_curve(axis, curves[axis])
    steeper = {axis: reason for axis, curve in curves.items() if (reason := _faster_than_linear(axis, curve))}
    for axis, reason in steeper.items():
        print(f"worse than linear in {axis}: {reason}")
    if not steeper:
        print("nothing grows faster than linear")
    if args.plot:
        plot(args.plot, curves)
    return {"curves": curves, "worse_than_linear": steeper}


def _values(axis: str, text: str) -> list[Any]:
    if axis == "seconds":
        return numbers("--seconds", text, float, 0.1, optional=True)
    return numbers(f"--{axis}", text, int, 0 if axis == "workers" else 1, optional=True)


def _measure_axis(args: argparse.Namespace, axis: str, values: list[float]) -> dict[str, Any]:
    if axis == "workers":
        rates = _loader_rates(args, [int(value) for value in values])
        return {"values": values, "times_real_time": rates}
    if axis == "processes":
        return {"values": values, "seconds": [step_seconds(_step_args(args), int(n), args.rounds) for n in values]}
    benches = {value: _bench(args, axis, value) for value in values}
    device = torch.device(args.device)
    taken = measure.interleaved({str(value): bench.ours for value, bench in benches.items()}, args.rounds, device)
    parts = [_part_seconds(bench) for bench in benches.values()]
    return {
        "values": values,
        "seconds": [round(statistics.median(taken[str(value)]), 6) for value in values],
        "peak_mib": [round(measure.peak_memory(bench.ours, device) / 2**20, 3) for bench in benches.values()],
        "parts": {name: [round(part[name], 6) for part in parts] for name in PARTS},
    }


def _step_args(args: argparse.Namespace, **changed: Any) -> argparse.Namespace:
    """Return the options of `step` for one of its batches, 4 x 10 s with 100 negatives but for what is changed."""
    whole = {"utterances": 4, "seconds": 10.0, "negatives": 100, **changed}
    off = dict.fromkeys(("checkpoint_activations", "checkpoint_features", "compile"), False)
    return argparse.Namespace(size=args.size, device=args.device, precision=args.precision, **whole, **off)


def _bench(args: argparse.Namespace, axis: str, value: float) -> Bench:
    if axis == "codes":
        return Bench(_step_args(args), model={"latent_vars": int(value)})
    if axis == "clusters":
        bench = Bench(_step_args(args))
        frames = int(bench.model.draw_mask(bench.sample["net_input"]["source"], None, 1)[0].sum())
        return Bench(_step_args(args), criterion={"cluster_factor": max(1, frames // int(value))})
    return Bench(_step_args(args, **{axis: value if axis == "seconds" else int(value)}))


def _part_seconds(bench: Bench) -> dict[str, float]:
    """Return the seconds that the parts of a forward pass take, by the profiler."""
    with bench.ranges():
        return measure.range_seconds(lambda: bench.criterion(bench.model, bench.sample), list(PARTS), bench.device)


def _loader_rates(args: argparse.Namespace, workers: list[int]) -> list[float]:
    """Return seconds of audio per second that so many data workers deliver."""
    options = {
        "pipeline": args.pipeline,
        "seconds": 10.0,
        "batch": 4,
        "batches": 20,
        "rounds": args.rounds,
        "step": None,
    }
    listed = ",".join(map(str, workers))
    rates = loader.run(argparse.Namespace(**options, workers=listed, manifest=None, noise_manifest=None))["realtime"]
    return [rates[str(number)] for number in workers]


def exponent(values: list[float], measured: list[float]) -> float:
    """Return the power of the last step of a curve, between its two largest values: 1 is linear, 2 the square."""
    if len(values) < 2 or min(*values[-2:], *measured[-2:]) <= 0:
        return 0.0
    return math.log(measured[-1] / measured[-2]) / math.log(values[-1] / values[-2])


def _faster_than_linear(axis: str, curve: Mapping[str, Any]) -> str | None:
    """Say what of a step grows faster than linear along an axis, by which power, which part does, and why."""
    powers = {name: exponent(curve["values"], curve[name]) for name in ("seconds", "peak_mib") if name in curve}
    steep = {name: power for name, power in powers.items() if power > LINEAR}
    if not steep:
        return None
    named = " and ".join(
        f"{'time' if name == 'seconds' else 'memory'} by the power {power:.2f}" for name, power in steep.items()
    )
    parts = {name: exponent(curve["values"], seconds) for name, seconds in curve.get("parts", {}).items()}
    worst = [f"{name.removeprefix('ccc.')} {power:.2f}" for name, power in parts.items() if power > LINEAR]
    return f"{named}; {REASONS[axis]}" + (f" (parts, by their powers: {', '.join(worst)})" if worst else "")


def _print_curve(axis: str, curve: Mapping[str, Any]) -> None:
    rows = {name: curve[name] for name in ("seconds", "peak_mib", "times_real_time") if name in curve}
    print(f"{axis:>12}" + "".join(f"{value:>12g}" for value in curve["values"]) + "   last power")
    for name, measured in rows.items():
        power = exponent(curve["values"], measured)
        print(f"{name:>12}" + "".join(f"{value:>12.4g}" for value in measured) + f"{power:>13.2f}")
