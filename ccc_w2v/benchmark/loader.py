"""`loader`: how fast data workers deliver batches of both views, as a training takes them."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ccc_w2v.augment.pipeline import find_pipeline, load_pipeline
from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.options import add_batch_arguments, check_above_zero, numbers
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.synthetic import RATE, corpus
from ccc_w2v.dataset.two_view import TwoViewDataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark loader`."""
    parser.add_argument("--pipeline", default="paper", help="preset or YAML file (default: paper)")
    add_batch_arguments(parser, batches=40)
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each number of workers (default: 5)")
    parser.add_argument("--workers", default="0,1,2", help="numbers of data workers, comma-separated (default: 0,1,2)")
    parser.add_argument(
        "--step", type=float, help="seconds of a training step of this batch, to tell its wait for data"
    )
    parser.add_argument("--manifest", help="speech, .tsv at 16 kHz (default: made for the measurement)")
    parser.add_argument("--noise-manifest", help="noises to mix in, .tsv (default: made for the measurement)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure interleaved rounds for each number of workers, their start not counted; return the medians.

    realtime: seconds of audio per second by number of workers; realtime_per_core: the best of them over its processes.
    """
    check_above_zero(args, "seconds", "batch", "batches", "rounds")
    workers = numbers("--workers", args.workers, int, 0)
    torch.set_num_threads(1)
    samples = round(args.seconds * RATE)
    find_pipeline(args.pipeline)
    with corpus(args.seconds, args.manifest, args.noise_manifest) as used:
        manifests = {"noise_manifest": used.noise, "music_manifest": used.noise, "rir_manifest": used.rirs}
        pipeline = load_pipeline(args.pipeline, RATE, fallbacks={"babble_manifest": used.speech}, **manifests)
        pipeline.prepare()
        manifest = read_manifest(used.speech)
        dataset = TwoViewDataset(
            manifest,
            pipeline,
            RATE,
            1,
            max_sample_size=samples,
            min_sample_size=samples,
            normalize=True,
            accept_left_out=True,
        )
        speeds: dict[int, list[float]] = {number: [] for number in workers}
        with tqdm(total=args.rounds * len(workers), desc="measuring", unit="round") as bar:
            for turn in range(args.rounds):
                dataset.set_epoch(turn + 1)
                for number in workers:
                    speeds[number].append(_realtime(dataset, number, args) * args.seconds * args.batch)
                    bar.update()
    medians = {number: statistics.median(values) for number, values in speeds.items()}
    per_core = {number: value / max(number, 1) for number, value in medians.items()}
    print(
        f"medians of {args.rounds} rounds of {args.batches} batches of {args.batch} x {args.seconds:g} s, "
        f"{args.pipeline}, {measure.machine(torch.device('cpu'))}"
    )
    print(f"{'workers':>10}{'times real time':>18}{'per worker':>14}{'batches/s':>12}")
    for number, value in medians.items():
        batches = value / args.seconds / args.batch
        print(f"{number:>10}{value:18.0f}{per_core[number]:14.0f}{batches:12.1f}")
    result: dict[str, Any] = {
        "realtime_per_core": round(max(per_core.values())),
        "realtime": {str(number): round(value) for number, value in medians.items()},
    }
    if args.step:
        waits = {number: max(0.0, args.seconds * args.batch / value - args.step) for number, value in medians.items()}
        result["wait_share"] = {str(number): round(wait / (wait + args.step), 4) for number, wait in waits.items()}
    return result


def _realtime(dataset: TwoViewDataset, workers: int, args: argparse.Namespace) -> float:
    """Return batches per second, counted from the first batch on: a worker's start is paid once in an epoch."""
    batches = [[(row + turn) % len(dataset) for row in range(args.batch)] for turn in range(args.batches + 1)]
    loader = iter(DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=dataset.collater))
    next(loader)
    began = time.perf_counter()
    for _ in loader:
        pass
    return args.batches / (time.perf_counter() - began)
