"""One share of a long command's work, ``--shard i/n``: for Slurm arrays, submitit, Ray, or several terminals.

Shard i of n takes a run of neighbouring items (lines of a manifest, recordings) with about an n-th of the audio, and
leaves its results in ``OUT.shards/i-of-n``, with a record of what they are of as the last file. ``ccc-w2v merge OUT``
makes OUT of them, once all are there and belong together.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import ccc_w2v
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole

Item = TypeVar("Item")
RECORD = "shard.json"


@dataclass(frozen=True)
class Shard:
    """Share ``number`` of ``count``, from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def take(self, items: Sequence[Item], sizes: Sequence[int] | np.ndarray) -> Sequence[Item]:
        """Return this shard's items: neighbours, at least one, with about the same sum of sizes as the others'.

        Raises InputError where there are more shards than items.
        """
        start, end = self.bounds(sizes)
        return items[start:end]

    def bounds(self, sizes: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """Return where this shard's items begin and end; see take."""
        if self.count > len(sizes):
            raise InputError(f"--shard {self}: there are {len(sizes)} items, so at most as many shards")
        ends = np.cumsum(np.asarray(sizes, dtype=np.float64))
        middles = ends - np.asarray(sizes) / 2
        edges = np.searchsorted(middles, ends[-1] * np.arange(self.count + 1) / self.count)
        # Where one item is larger than a share, its neighbours still have one each.
        first = np.arange(self.count + 1)
        edges = np.minimum(np.maximum.accumulate(np.maximum(edges - first, 0)), len(sizes) - self.count) + first
        edges[0], edges[-1] = 0, len(sizes)
        return int(edges[self.number - 1]), int(edges[self.number])


@dataclass(frozen=True)
class ShardRecord:
    """What a finished shard says of itself.

    ``of`` is what all shards of one work have in common: the command's settings and the digests of what it read.
    ``options`` are those with which the merge makes the lists of the whole.
    """

    command: str
    number: int
    count: int
    items: int
    all_items: int
    of: Mapping[str, Any]
    options: Mapping[str, Any]
    version: str = ccc_w2v.__version__

    @property
    def shard(self) -> Shard:
        """Which share it is."""
        return Shard(self.number, self.count)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return json.loads(json.dumps(asdict(self), default=str))


def parse_shard(text: str) -> Shard:
    """Read "2/8"; raises ArgumentTypeError, as argparse wants it."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}: expected i/n with i from 1 to n, for example 2/8")
    return Shard(int(match[1]), int(match[2]))


def add_shard_option(parser: argparse.ArgumentParser) -> None:
    """Add --shard, as all long commands have it."""
    parser.add_argument(
        "--shard",
        type=parse_shard,
        metavar="I/N",
        help="do share I of N (from 1), into OUT.shards; `ccc-w2v merge OUT` puts all together",
    )


def shards_folder(out: Path) -> Path:
    """Return the folder of an output's shards."""
    return out.with_name(f"{out.name}.shards")


def shard_folder(out: Path, shard: Shard) -> Path:
    """Return where one shard works."""
    return shards_folder(out) / f"{shard.number}-of-{shard.count}"


def keep_shard(folder: Path, record: ShardRecord) -> None:
    """Write a shard's record: it is finished."""
    write_whole(folder / RECORD, json.dumps(record.as_json(), indent=1) + "\n")


def read_shards(out: Path) -> list[tuple[Path, ShardRecord]]:
    """Return the folders and records of all shards of an output, in order.

    Raises InputError where one is missing, unfinished, comes from another number of shards, or was made of other
    inputs or with other settings than the first.
    """
    folder = shards_folder(out)
    places = {match: path for path in sorted(folder.glob("*-of-*")) if (match := _number(path))}
    if not places:
        raise InputError(f"{folder}: holds no shards; run the command with --shard 1/N to N/N first")
    counts = sorted({count for _, count in places})
    if len(counts) > 1:
        raise InputError(
            f"{folder}: holds shards of {' and '.join(map(str, counts))}; remove those that are not of this work"
        )
    count = counts[0]
    lacking = [number for number in range(1, count + 1) if not (folder / f"{number}-of-{count}" / RECORD).is_file()]
    if lacking:
        missing = ", ".join(map(str, lacking[:20])) + (" ..." if len(lacking) > 20 else "")
        raise InputError(f"{folder}: {len(lacking)} of {count} shards are not finished: {missing}; run them (again)")
    shards = [(folder / f"{number}-of-{count}", _read(folder, number, count)) for number in range(1, count + 1)]
    _check_same(shards)
    return shards


def read_record(folder: Path) -> ShardRecord | None:
    """Return the record of a finished shard's folder; None where there is none."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return ShardRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not what --shard writes ({error}); remove it, and run that shard again") from error


def _number(path: Path) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d+)-of-(\d+)", path.name)
    return (int(match[1]), int(match[2])) if match else None


def _read(folder: Path, number: int, count: int) -> ShardRecord:
    place = folder / f"{number}-of-{count}"
    record = read_record(place)
    assert record is not None  # its file was there
    if (record.number, record.count) != (number, count):
        raise InputError(f"{place}: says that it is shard {record.shard}; its folder was renamed, run that shard again")
    return record


def _check_same(shards: Sequence[tuple[Path, ShardRecord]]) -> None:
    first = shards[0][1]
    for path, record in shards[1:]:
        others = [name for name in {**first.of, **record.of} if first.of.get(name) != record.of.get(name)]
        others += [
            name for name in ("command", "version", "all_items") if getattr(first, name) != getattr(record, name)
        ]
        if others:
            raise InputError(
                f"{path}: does not belong to {shards[0][0].name}: it differs in {', '.join(others)}; remove the "
                "one that is wrong, and run that shard again"
            )
    items = sum(record.items for _, record in shards)
    if items != first.all_items:
        raise InputError(
            f"{shards[0][0].parent}: the shards hold {items} items together, expected {first.all_items}; run them again"
        )
