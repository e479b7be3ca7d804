"""Paths that name a part of a file: ``file.zip:offset:length`` (bytes), ``talk.mp3:start:samples`` (a segment).

An archive is an uncompressed zip or tar.

A segment's numbers are samples of its recording, at the recording's own rate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ARCHIVES = (".zip", ".tar")
# 18 digits fit 64 bits. A file without an ending may have a name that looks like a segment.
_SLICE = re.compile(r"(?P<file>.*\.[^:/.]+):(?P<start>\d{1,18}):(?P<length>\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class Slice:
    """A part of a file, in bytes of an archive or in samples of a recording."""

    file: str
    start: int
    length: int

    def __str__(self) -> str:
        return f"{self.file}:{self.start}:{self.length}"


def slice_of(path: str) -> Slice | None:
    """Return the part of a file that a path names; None for a whole file."""
    match = _SLICE.fullmatch(path)
    return Slice(match["file"], int(match["start"]), int(match["length"])) if match else None


def segment_of(path: str) -> Slice | None:
    """Return the segment of a recording that a path names; None for a whole file and for a slice of an archive."""
    part = slice_of(path)
    return None if part is None or part.file.endswith(ARCHIVES) else part


def member_of(path: str) -> Slice | None:
    """Return the slice of an archive that a path names; None for any other path."""
    part = slice_of(path)
    return part if part is not None and part.file.endswith(ARCHIVES) else None


def file_of(path: str) -> str:
    """Return the file that a path, or a part of a file, is in."""
    part = slice_of(path)
    return path if part is None else part.file


def copy_path(path: str) -> Path:
    """Return where a changed copy of an utterance goes, as FLAC: below its folder, with the same utterance id."""
    part = slice_of(path)
    if part is None:
        return Path(path).with_suffix(".flac")
    return Path(part.file).with_suffix("") / f"{part.start}-{part.length}.flac"
