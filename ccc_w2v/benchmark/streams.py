"""`streams`: how fast speech is read from what a pre-training takes: files, zips, tar shards on a disk and by http."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.benchmark import measure
from ccc_w2v.benchmark.options import add_batch_arguments, check_above_zero, numbers
from ccc_w2v.benchmark.range_server import can_serve, served
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.data.packing import pack
from ccc_w2v.data.remote import PATIENCE, Patience
from ccc_w2v.data.shard_packing import pack_shards
from ccc_w2v.data.slices import slice_of
from ccc_w2v.data.streams import is_stream_source, read_source
from ccc_w2v.data.synthetic import RATE, corpus
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.errors import InputError

ARCHIVES = 4  # about so many zips, and shards


@dataclass(frozen=True)
class MeasuredSource:
    """A place of the corpus as a training's dataset; the latency in ms and the requests at a time are a server's."""

    name: str
    dataset: TwoViewDataset
    latency_ms: float | None = None
    requests: int | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark streams`."""
    parser.add_argument("--manifest", help="speech in files, .tsv at 16 kHz (default: made for the measurement)")
    parser.add_argument(
        "--utterances", type=int, default=240, help="of the manifest, which are copied to be packed (default: 240)"
    )
    add_batch_arguments(parser, batches=8)
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each row of the table (default: 5)")
    parser.add_argument("--workers", default="0,1,2", help="numbers of data workers, comma-separated (default: 0,1,2)")
    parser.add_argument(
        "--requests", default="1,8", help="task.stream_requests, of each worker at a time (default: 1,8)"
    )
    parser.add_argument(
        "--latency-ms",
        default="0,20,100",
        help="by which the server delays each answer; empty: without a server (default: 0,20,100)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure interleaved rounds of every source with each number of workers; return the medians, a row for each.

    Of a row: realtime, seconds of crops delivered in a second; mb_per_second, of compressed audio, the whole utterances
    that were read (1e6 bytes); utterances_per_second. same_samples: whether all sources deliver the same ones.
    """
    check_above_zero(args, "utterances", "seconds", "batch", "batches", "rounds")
    workers = numbers("--workers", args.workers, int, 0)
    requests = numbers("--requests", args.requests, int, 1)
    latencies_ms = numbers("--latency-ms", args.latency_ms, float, 0, optional=True)
    if latencies_ms and not can_serve():
        print("http: not measured, aiohttp is missing; pip install 'ccc-w2v[streams]'", file=sys.stderr)
        latencies_ms = []
    torch.set_num_threads(1)
    with opened(args, latencies_ms, requests) as sources:
        sizes = _bytes_of(sources[0].dataset)
        same = _same_samples(sources, args.batch)
        rows = _measure(sources, workers, sizes, args)
    _print(rows, sizes, args)
    print(f"all sources deliver {'the same' if same else 'NOT THE SAME'} samples")
    about = {name: getattr(args, name) for name in ("seconds", "batch", "batches", "rounds")}
    return {**about, "utterances": len(sizes), "mb": round(sizes.sum() / 1e6, 3), "same_samples": same, "rows": rows}


@contextmanager
def opened(
    args: argparse.Namespace, latencies_ms: Sequence[float], requests: Sequence[int]
) -> Iterator[list[MeasuredSource]]:
    """Pack a corpus and serve its shards; give its files, which come first, and all other places that it is read from.

    Everything made for it goes with the block: archives, server, and the cache of streams. Raises InputError for a
    manifest that cannot be packed or has no utterance as long as a crop.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ccc_w2v_streams_")))
        stack.enter_context(_cache_in(folder / "cache"))
        manifest = _chosen(args, stack.enter_context(_speech(args)), folder / "speech.tsv")
        most = 1 + sum(os.path.getsize(manifest.audio_path(entry)) for entry in manifest.entries) // ARCHIVES
        pack(manifest, folder / "zip" / "speech.tsv", RATE, most)
        shards = pack_shards(manifest, folder / "tar" / "speech.tsv", RATE, most)
        sources = [
            MeasuredSource("files", _dataset(manifest, args)),
            MeasuredSource("zip", _dataset(read_manifest(folder / "zip" / "speech.tsv"), args)),
            MeasuredSource("tar", _dataset(read_source(folder / "tar" / _pattern(shards)), args)),
        ]
        addresses = stack.enter_context(served(folder / "tar", latencies_ms)) if latencies_ms else []
        for address, latency_ms in zip(addresses, latencies_ms, strict=True):
            patience = Patience(PATIENCE.timeout + latency_ms / 1000, PATIENCE.attempts)
            there = read_source(f"{address}/{_pattern(shards)}", patience=patience)
            sources += [MeasuredSource("http", _dataset(there, args, patience, n), latency_ms, n) for n in requests]
        yield sources


@contextmanager
def _speech(args: argparse.Namespace) -> Iterator[Path]:
    if args.manifest and is_stream_source(args.manifest):
        raise InputError(f"--manifest {args.manifest}: expected a .tsv of files, to be packed for the measurement")
    if args.manifest:
        yield Path(args.manifest)
        return
    with corpus(args.seconds, None, None) as made:
        yield made.speech


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Let this process keep what it knows of streams in a folder, and not in the user's cache."""
    name, before = "XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME")
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _chosen(args: argparse.Namespace, speech: Path, path: Path) -> Manifest:
    """Write a manifest of up to ``--utterances`` that are as long as a crop, evenly spread over the corpus."""
    everything = read_manifest(speech)
    long_enough = np.flatnonzero(everything.samples >= round(args.seconds * RATE))
    if not len(long_enough):
        raise InputError(f"{speech}: none of {len(everything)} utterances has {args.seconds:g} s; lower --seconds")
    places = np.linspace(0, len(long_enough) - 1, min(args.utterances, len(long_enough))).astype(int)
    entries = [everything.entries[int(position)] for position in long_enough[places]]
    for entry in entries:
        if slice_of(entry.path):
            raise InputError(f"{everything.where(entry)}: {entry.path}: is a part of a file; name a manifest of files")
    write_manifest(path, everything.root, [(entry.path, entry.samples) for entry in entries])
    return read_manifest(path)


def _pattern(shards: Sequence[Path]) -> str:
    """Return the name of all shards, as it stands in a training's settings."""
    stem, first = shards[0].stem.rsplit("-", 1)
    return f"{stem}-{{{first}..{shards[-1].stem.rsplit('-', 1)[1]}}}.tar" if len(shards) > 1 else shards[0].name


def _dataset(
    manifest: Manifest, args: argparse.Namespace, patience: Patience = PATIENCE, requests: int = 1
) -> TwoViewDataset:
    """Return a training's dataset without augmentation, whose cost is not that of reading."""
    samples = round(args.seconds * RATE)
    size = {"max_sample_size": samples, "min_sample_size": samples}
    pipeline = load_pipeline("none", RATE)
    return TwoViewDataset(manifest, pipeline, RATE, 1, **size, normalize=True, patience=patience, requests=requests)


def _bytes_of(dataset: TwoViewDataset) -> np.ndarray:
    return np.array([os.path.getsize(dataset.manifest.audio_path(entry)) for entry in dataset.manifest.entries])


def _same_samples(sources: Sequence[MeasuredSource], batch: int) -> bool:
    """Tell whether a batch of each source is that of the files; afterwards every connection is there."""
    indices = [number % len(sources[0].dataset) for number in range(batch)]
    batches = [_sound(source.dataset.collater(source.dataset.__getitems__(indices))) for source in sources]
    views = [[taken["net_input"][view] for view in ("source", "source_aug")] for taken in batches]
    return all(torch.equal(ours, theirs) for pair in views for ours, theirs in zip(views[0], pair, strict=True))


def _sound(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch; raises InputError for one that could not be read."""
    if "error" in batch:
        raise InputError(batch["error"])
    return batch


def _measure(
    sources: Sequence[MeasuredSource], workers: Sequence[int], sizes: np.ndarray, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Take rounds of all rows in turn, so that whatever else the machine does falls on all alike."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(len(sources) * len(workers))]
    with tqdm(total=args.rounds * len(taken), desc="measuring", unit="pass") as bar:
        for turn in range(args.rounds):
            rows = iter(taken)
            for source in sources:
                source.dataset.set_epoch(turn + 1)
                for number in workers:
                    bar.set_postfix_str(source.name)
                    next(rows).append(_rates(source.dataset, number, sizes, args, turn))
                    bar.update()
    rows = iter(taken)
    return [_row(source, number, next(rows), args.seconds) for source in sources for number in workers]


def _rates(
    dataset: TwoViewDataset, workers: int, sizes: np.ndarray, args: argparse.Namespace, turn: int
) -> tuple[float, float]:
    """Return utterances and bytes per second, counted once every worker has delivered a batch: one start an epoch."""
    skipped = max(workers, 1)
    first = turn * args.batches * args.batch
    numbers_of = (first + np.arange((skipped + args.batches) * args.batch)).reshape(-1, args.batch) % len(dataset)
    loader = iter(
        DataLoader(dataset, batch_sampler=numbers_of.tolist(), num_workers=workers, collate_fn=dataset.collater)
    )
    try:
        for _ in range(skipped):
            _sound(next(loader))
        began = time.perf_counter()
        for _ in range(args.batches):  # and no further: at its end it waits for its workers
            _sound(next(loader))
        seconds = time.perf_counter() - began
    finally:
        if workers:
            # Now, and not when an interruption has been handled: the folder that they read is removed before that, and
            # torch raises an error wherever this process is once one of them has been killed.
            loader._shutdown_workers()  # type: ignore[attr-defined]
    read = numbers_of[skipped:]
    return read.size / seconds, float(sizes[read].sum()) / seconds


def _row(source: MeasuredSource, workers: int, rates: Sequence[tuple[float, float]], seconds: float) -> dict[str, Any]:
    utterances, read = (statistics.median(column) for column in zip(*rates, strict=True))
    return {
        "source": source.name,
        "latency_ms": source.latency_ms,
        "requests": source.requests,
        "workers": workers,
        "realtime": round(utterances * seconds),
        "mb_per_second": round(read / 1e6, 2),
        "utterances_per_second": round(utterances, 1),
    }


def _print(rows: Sequence[dict[str, Any]], sizes: np.ndarray, args: argparse.Namespace) -> None:
    print(
        f"medians of {args.rounds} rounds of {args.batches} batches of {args.batch} x {args.seconds:g} s, from "
        f"{len(sizes)} utterances, {sizes.sum() / 1e6:.1f} MB, {measure.machine(torch.device('cpu'))}"
    )
    print(
        f"{'source':<8}{'latency ms':>12}{'requests':>10}{'workers':>9}{'times real time':>17}{'MB/s':>9}"
        f"{'utterances/s':>14}"
    )
    for row in rows:
        latency, requests = ("-" if row[key] is None else f"{row[key]:g}" for key in ("latency_ms", "requests"))
        print(
            f"{row['source']:<8}{latency:>12}{requests:>10}{row['workers']:>9}{row['realtime']:>17}"
            f"{row['mb_per_second']:>9.2f}{row['utterances_per_second']:>14.1f}"
        )
