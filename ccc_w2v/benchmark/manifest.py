"""`manifest`: what a manifest of millions of lines costs each process of a training, and how long its start takes.

As many processes as a machine has GPUs, each with its data workers, hold one manifest and stand in the middle of an
epoch. Recordings are named and not read: what is measured is the list, not the audio. Memory is the kernel's
proportional set size: a page that n processes share counts 1/n for each. What the same processes take with a manifest
of a thousand lines is subtracted: Python, torch, fairseq.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tqdm import tqdm

from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing

RATE = 16_000
FEW = 1000  # lines of the manifest whose processes are subtracted
AT_ONCE = 1 << 16
SHORTEST, LONGEST = 2.0, 35.0  # seconds; of so many, some are shorter than what a training takes
PART = "medium/{:04d}/some_title_of_a_book_{:04d}_64kb_mp3/chapter_{:02d}_a_title_0{:05d}.flac"
SIZE = {"max_sample_size": 250_000, "min_sample_size": 36_000}
MAX_TOKENS = 1_400_000
NAMES = {"ours": "TwoViewDataset", "fairseq": "FileAudioDataset"}
MB = 1e6
PATIENCE = 600  # seconds that processes wait for one another


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark manifest`."""
    parser.add_argument("--lines", type=int, default=12_800_000, help="lines of the manifest (default: 12800000)")
    parser.add_argument("--processes", type=int, default=8, help="processes, as of one machine (default: 8)")
    parser.add_argument("--workers", type=int, default=4, help="data workers of each process (default: 4)")
    parser.add_argument("--batches", type=int, default=200, help="batches that each process takes (default: 200)")
    parser.add_argument(
        "--fairseq-lines",
        type=int,
        default=1_000_000,
        help="lines for fairseq's dataset, 0 for none (default: 1000000)",
    )
    parser.add_argument("--fairseq-processes", type=int, default=8, help="processes for fairseq's (default: 8)")
    parser.add_argument("--folder", help="where the manifest of the measurement is written (default: a temporary one)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure ours with ``lines`` lines and fairseq's with ``fairseq_lines``; see _measure for the numbers."""
    for name in ("lines", "processes", "workers", "batches", "fairseq_processes"):
        if getattr(args, name) < (0 if name == "workers" else 1):
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be a positive whole number")
    with _folder(args.folder) as folder:
        few = write_lines(folder / f"lines_{FEW}.tsv", FEW)
        result = _measure(
            "ours", write_lines(folder / f"lines_{args.lines}.tsv", args.lines), few, args.processes, args
        )
        if args.fairseq_lines:
            path = write_lines(folder / f"lines_{args.fairseq_lines}.tsv", args.fairseq_lines)
            result["fairseq"] = _measure("fairseq", path, few, args.fairseq_processes, args)
    _print([result, *([result["fairseq"]] if "fairseq" in result else [])], args.workers)
    return result


@contextmanager
def _folder(named: str | None) -> Iterator[Path]:
    if named:
        Path(named).mkdir(parents=True, exist_ok=True)
        yield Path(named)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def write_lines(path: Path, lines: int) -> Path:
    """Write a manifest of so many recordings that are not there, with paths as long as Libri-light's, once."""
    if path.is_file():
        return path
    draw = np.random.default_rng(lines)
    with appearing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("/no/such/corpus\n")
        for first in tqdm(range(0, lines, AT_ONCE), desc=f"writing {path.name}", unit=" blocks", delay=3):
            count = min(AT_ONCE, lines - first)
            samples = (draw.uniform(SHORTEST, LONGEST, count) * RATE).astype(np.int64).tolist()
            numbers = range(first, first + count)
            names = (PART.format(n // 1000, n % 9973, n % 97, n % 99991) for n in numbers)
            file.writelines(f"{name}\t{length}\n" for name, length in zip(names, samples, strict=True))
    return path


def _measure(kind: str, path: Path, few: Path, processes: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return what a manifest costs the processes of a training, in megabytes of 1e6 bytes and seconds.

    private_mb_per_process  proportional set size, mean over processes and their workers
    rank_private_mb         memory of its own and not of a file, the largest of the processes without their workers
    start_seconds           from the path to the dataset, the slowest of the processes that start together
    order_seconds           from the dataset to the batches of an epoch, likewise
    build_seconds           the index (ours), where the folder had none yet
    """
    measured: dict[str, Any] = {"dataset": NAMES[kind], "lines": _lines(path), "processes": processes}
    if kind == "ours" and not path.with_name(f"{path.name}.index").is_file():
        measured["build_seconds"] = round(_in_process(_build, str(path)), 2)
    base, full = _processes(kind, [few, path], processes, args)
    count = processes * (1 + args.workers)
    measured["private_mb_per_process"] = round((full["pss"] - base["pss"]) / count / MB, 2)
    measured["rank_private_mb"] = round((full["private"] - base["private"]) / MB, 2)
    return measured | {key: round(full[key], 2) for key in ("start_seconds", "order_seconds")}


def _lines(path: Path) -> int:
    return int(path.stem.partition("_")[2])


def _build(path: str) -> float:
    from ccc_w2v.data.manifest import read_manifest

    began = time.perf_counter()
    read_manifest(path)
    return time.perf_counter() - began


def _in_process(function: Callable[[str], float], argument: str) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (argument,))


def _processes(kind: str, paths: list[Path], processes: int, args: argparse.Namespace) -> list[dict[str, float]]:
    """Let processes hold one manifest after the other in the middle of an epoch; return what all of them take."""
    context = multiprocessing.get_context("spawn")
    loaded, measured = context.Barrier(processes), context.Barrier(processes + 1)
    results: Any = context.SimpleQueue()
    options = (kind, [str(path) for path in paths], processes, args.workers, args.batches, loaded, measured, results)
    ranks = [context.Process(target=_rank, args=(rank, *options)) for rank in range(processes)]
    for rank in ranks:
        rank.start()
    try:
        measurements = []
        for _ in paths:
            measurements.append(_memory_of([_told(results, ranks) for _ in ranks]))
            measured.wait(PATIENCE)
        for rank in ranks:
            rank.join(PATIENCE)
        return measurements
    finally:
        for rank in ranks:
            rank.kill()


def _told(results: Any, ranks: list[Any]) -> dict[str, Any]:
    while results.empty():
        if any(rank.exitcode for rank in ranks):
            raise InputError("a process of the measurement ended early, perhaps for want of memory; lower --lines")
        time.sleep(0.1)
    return results.get()


def _memory_of(told: list[dict[str, Any]]) -> dict[str, float]:
    memory = [[_memory(pid) for pid in rank["pids"]] for rank in told]
    return {
        "pss": sum(process["Pss"] for rank in memory for process in rank),
        "private": max(rank[0]["Anonymous"] for rank in memory),
        **{key: max(rank[key] for rank in told) for key in ("start_seconds", "order_seconds")},
    }


def _memory(pid: int) -> dict[str, int]:
    """Return a process's memory in bytes by the kernel's names."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        fields = [line.split() for line in lines]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if words[-1] == "kB"}


def _rank(
    rank: int,
    kind: str,
    paths: list[str],
    ranks: int,
    workers: int,
    batches: int,
    loaded: Any,
    measured: Any,
    results: Any,
) -> None:
    """Be one process of a training: open a manifest, order an epoch, take some batches, wait to be measured."""
    from fairseq.tasks import FairseqTask

    from ccc_w2v.benchmark.named_audio import open_named
    from ccc_w2v.dataset.epochs import lean

    settings = SimpleNamespace(reuse_dataloader=False, persistent_workers=False, rebuild_batches=True)
    for path in paths:
        task: Any = FairseqTask(settings)
        loaded.wait(PATIENCE)
        began = time.perf_counter()
        dataset = open_named(kind, path, RATE, **SIZE)
        opened = time.perf_counter()
        sharing = {"num_shards": ranks, "shard_id": rank, "num_workers": workers}
        epochs = task.get_batch_iterator(dataset, max_tokens=MAX_TOKENS, seed=1, **sharing)
        if kind == "ours":
            lean(epochs)
        epoch = epochs.next_epoch_itr()
        ordered = time.perf_counter()
        for _ in range(min(batches, len(epoch))):
            next(epoch)
        pids = [process.pid for process in (multiprocessing.current_process(), *multiprocessing.active_children())]
        results.put({"start_seconds": opened - began, "order_seconds": ordered - opened, "pids": pids})
        # Not for ever: whoever measures may have been stopped.
        measured.wait(PATIENCE)
        del task, dataset, epochs, epoch
        gc.collect()


def _print(rows: list[dict[str, Any]], workers: int) -> None:
    print(f"{'dataset':<18}{'lines':>12}{'processes':>12}{'MB each':>10}{'start s':>9}{'epoch s':>9}")
    for row in rows:
        processes = f"{row['processes']} x {1 + workers}"
        print(
            f"{row['dataset']:<18}{row['lines']:>12}{processes:>12}{row['private_mb_per_process']:>10.1f}"
            f"{row['start_seconds']:>9.2f}{row['order_seconds']:>9.2f}"
        )
