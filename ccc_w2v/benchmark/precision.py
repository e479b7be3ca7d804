"""`precision`: does bfloat16 pay here, and does the training notice? Loss curves and step times beside float32's.

Each seed has its own initial weights, audio, masks and draws, the same in every precision; the curves of float32 over
the seeds say how much a training's loss varies by chance.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.sizes import SIZES
from ccc_w2v.benchmark.step import RATE, Bench
from ccc_w2v.bf16_layers import as_in_fairseq
from ccc_w2v.compat_half import check_half_convolutions
from ccc_w2v.criterion import CccCriterion
from ccc_w2v.data.randomness import seed_for
from ccc_w2v.data.synthetic import voice
from ccc_w2v.files import write_whole
from ccc_w2v.freed_memory import keep_freed_memory
from ccc_w2v.model import CccWav2Vec2Model
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.settings.model import CccWav2Vec2Config
from ccc_w2v.training.precision import bf16_instructions

SINGLE, AUTOCAST, WEIGHTS = "fp32", "bf16 autocast", "bf16 weights"
FAIRSEQ = "bf16 autocast, fairseq's layers"  # what bf16_layers.py saves
WINDOWS = 10  # of a curve: their means are compared
RECORDINGS = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark precision`."""
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="model (default: small)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--updates", type=int, default=200, help="of each curve, at least 10 (default: 200)")
    parser.add_argument("--seeds", type=int, default=4, help="curves of each precision, at least 2 (default: 4)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each utterance of the curves (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each; 0: none (default: 5)")
    parser.add_argument("--curves", type=Path, help="write all losses as JSON here")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train and measure; return step time ratios to float32, and differences of the curves in spreads of the seeds."""
    keep_freed_memory()
    print(f"{args.size}, {measure.machine(torch.device(args.device))}")
    print(f"instructions for bfloat16: {bf16_instructions() or 'none'}")
    curves = {
        precision: [train(args, precision, seed) for seed in range(1, args.seeds + 1)]
        for precision in (SINGLE, AUTOCAST, WEIGHTS)
    }
    result: dict[str, Any] = {"instructions": bf16_instructions(), "updates": args.updates, "seeds": args.seeds}
    for precision, name in ((AUTOCAST, "autocast"), (WEIGHTS, "weights")):
        difference = in_spreads(curves[SINGLE], curves[precision])
        result[f"{name}_difference_in_spreads"] = round(difference, 4)
        result[f"{name}_within_seed_spread"] = difference <= 1
    if args.rounds:
        result |= _time_ratios(args)
    for precision, losses in curves.items():
        ends = [np.mean(curve[-max(args.updates // WINDOWS, 1) :]) for curve in losses]
        print(f"{precision:>14}: last loss {np.mean(ends):.4f}, {np.std(ends, ddof=1):.4f} between seeds (nats)")
    if args.curves:
        write_whole(args.curves, json.dumps(curves) + "\n")
    return result


def train(args: argparse.Namespace, precision: str, seed: int) -> list[float]:
    """Return the loss [nats per masked frame] of each update of a tiny training, from its seed alone."""
    check_half_convolutions()
    device = torch.device(args.device)
    autocast = "bf16" if precision == AUTOCAST else "none"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CccWav2Vec2Model(CccWav2Vec2Config(**SIZES[args.size], autocast=autocast)).to(device).train()
        criterion = CccCriterion(CccCriterionConfig(), task=None)
        step, losses = _optimiser(model, half=precision == WEIGHTS), []
        dtype = torch.bfloat16 if precision == WEIGHTS else torch.float32
        draw = np.random.default_rng(seed)
        recordings = torch.from_numpy(
            np.stack([voice(draw, round(args.seconds * RATE)) for _ in range(RECORDINGS)]).astype(np.float32)
        )
        for update in tqdm(range(args.updates), f"{precision}, seed {seed}", unit="update", leave=False):
            model.set_num_updates(update)
            generator = torch.Generator().manual_seed(seed_for(seed, "batch", update))
            source = recordings[torch.randperm(RECORDINGS, generator=generator)[:4]]
            other = source + source.std() * 0.1 * torch.randn(source.shape, generator=generator)
            waves = {"source": source.to(device, dtype), "source_aug": other.to(device, dtype)}
            sample = {"id": torch.arange(4), "net_input": {**waves, "seed": seed_for(seed, "draws", update)}}
            loss, frames, _ = criterion(model, sample)
            (loss / frames).backward()
            step()
            losses.append(float(loss.detach()) / frames)
    return losses


def _optimiser(model: torch.nn.Module, *, half: bool) -> Callable[[], None]:
    """Return the update of Adam; with bfloat16 weights of float32 copies of them, as fairseq's common.bf16 has."""
    singles = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    if half:
        model.to(torch.bfloat16)
    adam = torch.optim.Adam(singles, lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01)

    def step() -> None:
        for single, parameter in zip(singles, model.parameters(), strict=True):
            single.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(singles, 5.0)
        adam.step()
        with torch.no_grad():
            for single, parameter in zip(singles, model.parameters(), strict=True):
                parameter.copy_(single)

    return step


def in_spreads(expected: list[list[float]], actual: list[list[float]]) -> float:
    """Return the largest difference between mean curves, window by window, in standard deviations between seeds."""
    windows = [np.array_split(np.asarray(curves), WINDOWS, axis=1) for curves in (expected, actual)]
    expected_means, actual_means = (np.stack([window.mean(axis=1) for window in split]) for split in windows)
    spread = expected_means.std(axis=1, ddof=1)
    return float((abs(expected_means.mean(axis=1) - actual_means.mean(axis=1)) / spread).max())


def _time_ratios(args: argparse.Namespace) -> dict[str, float]:
    """Return how long a step of 4 x 10 s takes in bfloat16, of float32's time in the same round."""
    options = {"utterances": 4, "seconds": 10.0, "negatives": 100, "size": args.size, "device": args.device}
    off = dict.fromkeys(("checkpoint_activations", "checkpoint_features", "compile"), False)
    own = {AUTOCAST: {"autocast": "bf16"}, FAIRSEQ: {"autocast": "bf16"}}
    measured = (SINGLE, AUTOCAST, WEIGHTS) if args.device != "cpu" else (SINGLE, AUTOCAST, FAIRSEQ, WEIGHTS)
    benches = {
        precision: Bench(
            argparse.Namespace(**options, **off, precision="bf16" if precision == WEIGHTS else "fp32"),
            own=own.get(precision),
        )
        for precision in measured
    }
    if FAIRSEQ in benches:
        as_in_fairseq(benches[FAIRSEQ].model)
    taken = measure.interleaved(
        {precision: bench.ours for precision, bench in benches.items()}, args.rounds, torch.device(args.device)
    )
    for precision, seconds in taken.items():
        print(f"{precision:>31}: {statistics.median(seconds):.3f} s for a step of 4 x 10 s")
    names = {AUTOCAST: "autocast", FAIRSEQ: "fairseqs_layers", WEIGHTS: "weights"}
    return {
        f"{names[precision]}_time_ratio": round(measure.median_ratio(seconds, taken[SINGLE]), 4)
        for precision, seconds in taken.items()
        if precision != SINGLE
    }
