"""A large manifest on disk, for millions of lines in every process: lengths mapped, paths read one at a time.

Beside ``train.tsv`` lies ``train.tsv.index``; where its folder cannot be written, the index lies in the user's cache.
It is four NumPy arrays, one behind the other, as numpy.save writes them and numpy.load reads them back:

    about    bytes (J,)      JSON: the manifest's size, time and SHA-256, its root folder, the arrays' checksum
    samples  int64 (N,)      lengths
    starts   uint (N + 1,)   where each path begins in ``paths``
    paths    bytes (P,)      all paths in UTF-8, one behind the other

Nothing in it is an object of Python, and no process has pages of its own: lengths and starts are mapped, which all
processes share, and a path is read where it is asked for. The index is written whole, by one process while others wait,
and again once the manifest has changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from ccc_w2v.data.manifest_lines import Entries, Entry, manifest_lines
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing, sha256
from ccc_w2v.user_cache import cache_folder

logger = logging.getLogger(__name__)

FORMAT = 1
EDGE = 1 << 16  # bytes at either end of the manifest that tell it from another of the same size and time
LINES = 1 << 16  # parsed, and read, at a time
BLOCK = 1 << 22
NO_CRC = "00000000"


class IndexedEntries(Entries):
    """The utterances of an index; each is made when it is asked for.

    A process that is forked shares the file and the mapped arrays, one that is spawned opens them anew. Raises
    ValueError for a file that is no index, or damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._open()

    def _open(self) -> None:
        self._data = open(self.file, "rb")  # noqa: SIM115  (open as long as the entries are)
        try:
            about = json.loads(np.load(self._data).tobytes())
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}")
            checked = self._data.tell()
            self.samples, self._starts, self._paths_at = self._mapped(), self._mapped(), self._skipped()
        except (KeyError, TypeError, EOFError, OSError) as error:
            raise ValueError(str(error)) from error
        self.about, self.root, self.digest = about, about["root"], about["sha256"]
        end = self._paths_at + (int(self._starts[-1]) if len(self._starts) else 0)
        whole = os.fstat(self._data.fileno()).st_size == end and len(self._starts) == len(self.samples) + 1
        if not whole or _crc(self._data, checked, self._paths_at) != about["crc"]:
            raise ValueError("damaged")

    def _mapped(self) -> np.ndarray:
        shape, dtype = self._head()
        start = self._data.tell()
        array = np.memmap(self._data, dtype, "r", start, shape)
        self._data.seek(start + array.nbytes)
        return array.view(np.ndarray)

    def _skipped(self) -> int:
        self._head()
        return self._data.tell()

    def _head(self) -> tuple[tuple[int, ...], np.dtype]:
        np.lib.format.read_magic(self._data)
        shape, _, dtype = np.lib.format.read_array_header_1_0(self._data)
        return shape, dtype

    def __getstate__(self) -> Path:
        return self.file

    def __setstate__(self, file: Path) -> None:
        self.file = file
        self._open()

    def __len__(self) -> int:
        return len(self.samples)

    def entry(self, position: int) -> Entry:
        """Return the utterance at a position."""
        start, end = int(self._starts[position]), int(self._starts[position + 1])
        # Not mapped: pages that an epoch has touched would count for every process.
        path = os.pread(self._data.fileno(), end - start, self._paths_at + start)
        return Entry(path.decode(), int(self.samples[position]), position + 2)

    def __iter__(self) -> Iterator[Entry]:
        for first in range(0, len(self), LINES):
            starts = self._starts[first : first + LINES + 1].tolist()
            paths = os.pread(self._data.fileno(), starts[-1] - starts[0], self._paths_at + starts[0])
            lengths = self.samples[first : first + LINES].tolist()
            for row, (start, end) in enumerate(itertools.pairwise(starts)):
                path = paths[start - starts[0] : end - starts[0]].decode()
                yield Entry(path, lengths[row], first + row + 2)


def manifest_index(path: Path) -> IndexedEntries | None:
    """Return the index of a manifest, which is built first where there is none, or none of the manifest as it is now.

    None where no index can be written, with a warning. Raises InputError as manifest_lines does.
    """
    places = index_places(path)
    if (entries := _existing(path, places)) is not None:
        return entries
    with _alone(path):
        # Another process may have built it meanwhile.
        if (entries := _existing(path, places)) is not None:
            return entries
        reasons = []
        for place in places:
            try:
                _build(path, place)
                return IndexedEntries(place)
            except OSError as error:
                reasons.append(f"{place} ({error.strerror})")
    logger.warning(
        f"{path}: its index cannot be written: {', '.join(reasons)}; every process keeps all lines in memory. "
        "Set XDG_CACHE_HOME to a folder with space"
    )
    return None


def index_places(path: Path) -> list[Path]:
    """Return where the index of a manifest may lie: beside it, else in the user's cache."""
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return [path.with_name(f"{path.name}.index"), cache_folder() / "manifests" / f"{path.stem}-{name}.index"]


def _existing(path: Path, places: list[Path]) -> IndexedEntries | None:
    fingerprint = _fingerprint(path)
    for place in places:
        if not place.is_file():
            continue
        try:
            entries = IndexedEntries(place)
        except (ValueError, OSError) as error:
            logger.warning(f"{place}: not usable ({error}), built again")
            continue
        if entries.about["manifest"] == fingerprint:
            return entries
    return None


def _fingerprint(path: Path) -> dict[str, Any]:
    """Tell a manifest from what it was, without reading all of it."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        edges = file.read(EDGE)
        file.seek(max(0, status.st_size - EDGE))
        edges += file.read(EDGE)
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "edges": zlib.crc32(edges)}


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time build: the others of a run wait for it."""
    with open(path, "rb") as file:
        # Some network file systems have no locks; then each builds for itself, and the last one stands.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass
class _Columns:
    """Lengths and ends of paths (int64), and paths, in files without a name, since how many there are shows at last."""

    samples: IO[bytes]
    ends: IO[bytes]
    paths: IO[bytes]
    lines: int = 0
    path_bytes: int = 0

    def fill(self, lines: Iterator[Entry]) -> None:
        while chunk := list(itertools.islice(lines, LINES)):
            encoded = [entry.path.encode() for entry in chunk]
            ends = self.path_bytes + np.cumsum([len(path) for path in encoded], dtype=np.int64)
            self.samples.write(np.array([entry.samples for entry in chunk], dtype=np.int64).tobytes())
            self.ends.write(ends.tobytes())
            self.paths.write(b"".join(encoded))
            self.lines, self.path_bytes = self.lines + len(chunk), int(ends[-1])
        for column in (self.samples, self.ends, self.paths):
            column.seek(0)


def _build(path: Path, place: Path) -> None:
    """Stream a manifest into an index, with bounded memory."""
    before, digest = _fingerprint(path), sha256(path)
    root, lines = manifest_lines(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        samples, ends, paths = (stack.enter_context(tempfile.TemporaryFile(dir=place.parent)) for _ in range(3))
        columns = _Columns(samples, ends, paths)
        columns.fill(iter(tqdm(lines, desc=f"indexing {path.name}", unit=" lines", delay=3)))
        if _fingerprint(path) != before:
            raise InputError(f"{path}: changed while its index was built; start again once it is written")
        about = {"format": FORMAT, "root": root, "sha256": digest, "manifest": before}
        with appearing(place) as partial:
            _write(partial, about, columns)


def _write(partial: Path, about: dict[str, Any], columns: _Columns) -> None:
    kind = np.dtype("<u4" if columns.path_bytes < 1 << 32 else "<i8")
    with open(partial, "w+b") as out:
        # The checksum follows from what is written behind it.
        _save_about(out, about | {"crc": NO_CRC})
        checked = out.tell()
        _write_head(out, np.dtype("<i8"), columns.lines)
        shutil.copyfileobj(columns.samples, out, BLOCK)
        _write_head(out, kind, columns.lines + 1)
        out.write(np.zeros(1, kind).tobytes())
        while block := columns.ends.read(BLOCK):
            out.write(np.frombuffer(block, dtype=np.int64).astype(kind).tobytes())
        _write_head(out, np.dtype("u1"), columns.path_bytes)
        paths_at = out.tell()
        shutil.copyfileobj(columns.paths, out, BLOCK)
        out.flush()
        crc = _crc(out, checked, paths_at)
        out.seek(0)
        _save_about(out, about | {"crc": crc})


def _save_about(out: IO[bytes], about: dict[str, Any]) -> None:
    text = json.dumps(about, ensure_ascii=False).encode()
    # Filled up, so that the numbers behind it are aligned in memory.
    np.save(out, np.frombuffer(text.ljust(-(-len(text) // 64) * 64), dtype=np.uint8))


def _write_head(out: IO[bytes], kind: np.dtype, count: int) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": kind.str, "fortran_order": False, "shape": (count,)})


def _crc(data: IO[bytes], start: int, end: int) -> str:
    """Return the CRC-32 of a file from ``start`` to ``end``, in hexadecimal digits; read, and not mapped."""
    crc, position = 0, start
    while position < end:
        block = os.pread(data.fileno(), min(BLOCK, end - position), position)
        if not block:
            break
        crc, position = zlib.crc32(block, crc), position + len(block)
    return f"{crc:08x}"
