"""The .tsv manifest, in fairseq's format: the only code that knows it.

First line: the root folder. Every other line: a path relative to the root, a tab, the number of samples.
A path may be a slice of an uncompressed zip, ``file.zip:offset:length`` (bytes).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.text_files import text_lines


@dataclass(frozen=True)
class Entry:
    """One utterance: its path below the root, its length in samples, its line number in the manifest."""

    path: str
    samples: int
    line: int


@dataclass(frozen=True)
class Manifest:
    """A manifest in memory: where it came from, the root folder, the utterances in file order."""

    source: str
    root: str
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def audio_path(self, entry: Entry) -> str:
        """Return the path to read, with the zip slice still attached where there is one."""
        return os.path.join(self.root, entry.path)

    def where(self, entry: Entry) -> str:
        """Return "manifest:line", for error messages."""
        return f"{self.source}:{entry.line}"


def read_manifest(path: str | Path) -> Manifest:
    """Read a .tsv manifest.

    Raises InputError for a manifest that is missing, empty or no text, and for the first line that is not
    "path<TAB>samples".
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such manifest; check the path (in a training, task.data)")
    lines = text_lines(path, "manifest", "the audio's root folder, then lines of path<TAB>samples")
    root = next(lines, "")
    entries = tuple(_parse_line(path, number, line) for number, line in enumerate(lines, start=2))
    if not root:
        raise InputError(f"{path}:1: the first line must be the audio's root folder, found an empty line")
    if "\t" in root:
        raise InputError(f"{path}:1: the first line must be the audio's root folder alone, found {root!r}")
    if not entries:
        raise InputError(f"{path}: the manifest lists no audio; expected lines of path<TAB>samples below the root line")
    return Manifest(str(path), root, entries)


def _parse_line(path: Path, number: int, line: str) -> Entry:
    fields = line.rstrip("\n").split("\t")
    if len(fields) != 2 or not fields[0] or not fields[1].isdecimal() or int(fields[1]) == 0:
        raise InputError(
            f"{path}:{number}: expected path<TAB>samples with a positive whole number of samples, "
            f"found {line.rstrip()!r}; write the manifest again"
        )
    return Entry(fields[0], int(fields[1]), number)


def first_recordings(path: str | Path | None, utterances: int = 4) -> list[str]:
    """Return the audio paths of a manifest's first few utterances, to compare two models on; none without a path."""
    if path is None:
        return []
    manifest = read_manifest(path)
    return [manifest.audio_path(entry) for entry in manifest.entries[:utterances]]


def write_manifest(path: str | Path, root: str | Path, entries: Iterable[tuple[str, int]]) -> None:
    """Write a manifest of (path below root, samples) pairs; the file appears whole or not at all."""
    lines = [f"{root}\n", *(f"{name}\t{samples}\n" for name, samples in entries)]
    write_whole(path, "".join(lines))
