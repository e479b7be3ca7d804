"""Tar shards, Hub data sets and manifests on a network as a manifest on this machine, which is read like any other.

    /data/train-{000000..000099}.tar   s3://bucket/train-*.tar   https://host/corpus/train.tsv   hub:name/config/split

What a part of a stream (a shard, some thousand rows) holds is read once and kept in the user's cache, a file a part, so
that a scan that was broken off continues; all parts together are a manifest of byte ranges there. A part is read again
when its size, time or ETag has changed. An utterance's number follows from the order of the parts, so crops, masks and
augmentation are those of any manifest.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from braceexpand import braceexpand
from tqdm import tqdm

from ccc_w2v.data import hub, remote
from ccc_w2v.data.manifest import Manifest, read_manifest
from ccc_w2v.data.manifest_lines import manifest_lines
from ccc_w2v.data.remote import PATIENCE, Patience, is_address
from ccc_w2v.data.shard_scan import Scanned
from ccc_w2v.data.stream_parts import StreamPart, Version, read_json, row_parts, shard_part
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing, write_whole
from ccc_w2v.user_cache import cache_folder

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

SHARD = ".tar"
AT_ONCE = 16  # parts; they are waited for more than computed
# So long the parts of a network are not asked for their version again: the ranks of a run start together.
FRESH_SECONDS = 30


def is_stream_source(source: str | Path) -> bool:
    """Tell whether a source is something else than a manifest on this machine."""
    source = str(source)
    return is_address(source) or hub.is_hub(source) or source.endswith(SHARD)


def whole_name(source: str | Path) -> str:
    """Return a source's name for other folders: an address and a Hub data set as they are, else an absolute path."""
    source = str(source)
    return source if is_address(source) or hub.is_hub(source) else os.path.abspath(source)


def stream_place(source: str) -> Path:
    """Return where the manifest of a stream is kept."""
    source = whole_name(source)
    stem = source.rpartition("/")[2].removesuffix(SHARD).removesuffix(".tsv")
    readable = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in stem)
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    return cache_folder() / "streams" / digest / f"{readable[:60]}.tsv"


def read_source(source: str | Path, on_bad_audio: str = "raise", patience: Patience = PATIENCE) -> Manifest:
    """Read a manifest, or what a stream holds as one.

    A member that cannot be used, and a shard that is unreachable or no tar, ends this with an InputError or, where
    ``on_bad_audio`` is "skip", is named in the log, counted, and left out. Raises InputError as read_manifest does.
    """
    source = str(source)
    if not is_stream_source(source):
        return read_manifest(source)
    place = stream_place(source)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.parent):
        if is_address(source) and not source.endswith(SHARD):
            _fetch_manifest(source, place, patience)
        else:
            _collect(source, place, on_bad_audio, patience)
    return read_manifest(place)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process of a machine at a time read a stream's parts: the others wait for it."""
    with open(folder / "lock", "ab") as file:
        with contextlib.suppress(OSError):  # a cache on a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_manifest(source: str, place: Path, patience: Patience) -> None:
    """Copy a manifest from a network; its recordings are beside it, in whatever folder it was written."""
    record = place.with_suffix(".json")
    version = remote.version(source, patience)
    if place.is_file() and read_json(record) == version:
        return
    fetched = place.with_suffix(".fetched")
    with open(fetched, "wb") as file:
        starts = range(0, version["size"], remote.BLOCK)
        for start in tqdm(starts, desc=f"fetching {source.rpartition('/')[2]}", unit="block", delay=3):
            file.write(remote.read_range(source, start, min(remote.BLOCK, version["size"] - start), patience))
    try:
        root, lines = manifest_lines(fetched)
        with appearing(place) as partial, open(partial, "w", encoding="utf-8") as out:
            elsewhere = is_address(root) or hub.is_hub(root)
            out.write(f"{root if elsewhere else source.rpartition('/')[0]}\n")
            out.writelines(f"{entry.path}\t{entry.samples}\n" for entry in lines)
    except InputError as error:
        raise InputError(str(error).replace(str(fetched), source)) from error
    fetched.unlink()
    write_whole(record, json.dumps(version))


def _collect(source: str, place: Path, on_bad_audio: str, patience: Patience) -> None:
    """Write the manifest of all parts of a stream, unless it is there, and follow the policy of what is bad."""
    record = place.with_suffix(".json")
    known = read_json(record) if place.is_file() else None
    sound = known is not None and not (known["bad"] or known["lost"])
    if sound and is_address(source) and time.time() - record.stat().st_mtime < FRESH_SECONDS:
        return
    root, parts = _parts(source, patience)
    folder = place.parent / "parts"
    folder.mkdir(exist_ok=True)
    versions = _each(parts, lambda part: part.version(folder), f"looking for {place.stem}")
    now = [[part.name, version] for part, version in zip(parts, versions, strict=True) if isinstance(version, dict)]
    if known and known["parts"] == now and len(now) == len(parts):
        os.utime(record)
    else:
        known = _read_all(place, root, parts, versions, folder)
        write_whole(record, json.dumps(known))
    _follow_policy(source, known, on_bad_audio)


def _parts(source: str, patience: Patience) -> tuple[str, list[StreamPart]]:
    """Return the folder below which a stream's parts lie, and the parts in order."""
    if hub.is_hub(source):
        return source, row_parts(source)
    shards = _shards(source, patience)
    return _folder_of(source, shards), [shard_part(shard, patience) for shard in shards]


def _each(parts: Sequence[StreamPart], call: Callable[[StreamPart], Result], doing: str) -> list[Result | InputError]:
    """Call a function with every part, several at a time; an InputError stands in the place of what it returns."""

    def called(part: StreamPart) -> Result | InputError:
        try:
            return call(part)
        except InputError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(tqdm(pool.map(called, parts), total=len(parts), desc=doing, unit="part", delay=2))


def _read_all(
    place: Path, root: str, parts: Sequence[StreamPart], versions: Sequence[Version | InputError], folder: Path
) -> dict[str, Any]:
    """Read all parts and write their manifest; returns what is recorded of it.

    One that is the same already stays, and with it its index.
    """
    version_of = {part.name: version for part, version in zip(parts, versions, strict=True)}

    def read(part: StreamPart) -> tuple[int, list[str]]:
        version = version_of[part.name]
        if isinstance(version, InputError):
            raise version
        scanned = part.read(version, folder)
        return len(scanned.lines), [f"{part.name}: {name}: {reason}" for name, reason in scanned.bad]

    results = _each(parts, read, f"reading {place.stem}")
    good: list[tuple[StreamPart, Version]] = []
    lost: list[str] = []
    bad: list[str] = []
    lines = 0
    for part, result in zip(parts, results, strict=True):
        if isinstance(result, InputError):
            lost.append(str(result))
            continue
        good.append((part, version_of[part.name]))  # type: ignore[arg-type]
        lines, bad = lines + result[0], bad + result[1]
    # An index of the manifest is good as long as the manifest stands as it is.
    with appearing(place, keep_equal=True) as partial, open(partial, "w", encoding="utf-8") as out:
        out.write(f"{root}\n")
        for part, version in good:
            out.writelines(_lines(root, part, part.read(version, folder)))
    return {"parts": [[part.name, version] for part, version in good], "lines": lines, "bad": bad, "lost": lost}


def _lines(root: str, part: StreamPart, scanned: Scanned) -> Iterator[str]:
    """Yield the manifest's lines of a part; a shard's are below the root as the shard is."""
    folder = "" if hub.is_hub(root) else os.path.dirname(part.name.removeprefix(root).lstrip("/"))
    return (f"{os.path.join(folder, path)}\t{samples}\n" for path, samples in scanned.lines)


def _follow_policy(source: str, known: dict[str, Any], on_bad_audio: str) -> None:
    """Name and count what cannot be used; raises InputError unless it is skipped, and where nothing is left."""
    lost, bad = known["lost"], known["bad"]
    if not known["lines"]:
        raise InputError(f"{source}: nothing in it can be used; the first: {[*lost, *bad, 'it is empty'][0]}")
    if not (lost or bad):
        return
    if on_bad_audio == "raise":
        count = len(lost) + len(bad)
        more = f"; {count} parts or members of {source} cannot be used" if count > 1 else ""
        raise InputError(f"{[*lost, *bad][0]}{more}; replace what is damaged, or set task.on_bad_audio=skip")
    for line in lost:
        logger.warning("skipped a whole part: %s", line)
    for line in bad:
        logger.warning("skipped bad audio: %s", line)
    logger.warning(
        "%s: %d of %d parts and %d of %d members cannot be used and are left out",
        *(source, len(lost), len(lost) + len(known["parts"]), len(bad), known["lines"] + len(bad)),
    )


def _shards(source: str, patience: Patience) -> list[str]:
    """Return the shards that a pattern names, in order, each once."""
    try:
        names = list(braceexpand(source if is_address(source) else os.path.abspath(source)))
    except ValueError as error:
        raise InputError(f"{source}: its braces do not match; expected a pattern as train-{{000..099}}.tar") from error
    shards: list[str] = []
    for name in names:
        if not glob.has_magic(name.partition("://")[2] or name):
            shards.append(name)
        elif matched := (remote.matches(name, patience) if is_address(name) else sorted(glob.glob(name))):
            shards += matched
        else:
            raise InputError(f"{name}: no shard matches; check the pattern")
    return list(dict.fromkeys(shards))


def _folder_of(source: str, shards: Sequence[str]) -> str:
    """Return the folder below which all shards lie."""
    folder = shards[0].rpartition("/")[0]
    while folder and any(not shard.startswith(f"{folder}/") for shard in shards):
        folder = folder.rpartition("/")[0]
    if is_address(source) and not is_address(folder):
        raise InputError(f"{source}: names shards of several servers; make a mixture of them (task.mixture)")
    return folder or "/"
