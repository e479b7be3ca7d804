"""The .tsv manifest, in fairseq's format: the only code that knows it.

First line: the root folder. Every other line: a path relative to the root, a tab, the number of samples.
A path may be a slice of an uncompressed zip, ``file.zip:offset:length`` (bytes), or a segment of a long recording,
``talk.flac:start:samples``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccc_w2v.data.manifest_index import IndexedEntries, manifest_index
from ccc_w2v.data.manifest_lines import Entry, manifest_lines
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole

# Bytes from which a manifest is read through an index on disk: some 80,000 lines, which take 20 MB as objects.
INDEXED_FROM = 4 << 20


@dataclass(frozen=True)
class Manifest:
    """A manifest: where it came from, the root folder, the utterances in file order."""

    source: str
    root: str
    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def samples(self) -> np.ndarray:
        """The lengths of all utterances in samples, int64; of a large manifest a read-only view of its index."""
        if isinstance(self.entries, IndexedEntries):
            return self.entries.samples
        return np.fromiter((entry.samples for entry in self.entries), dtype=np.int64, count=len(self.entries))

    def audio_path(self, entry: Entry) -> str:
        """Return the path to read, with the zip slice still attached where there is one."""
        return os.path.join(self.root, entry.path)

    def where(self, entry: Entry) -> str:
        """Return "manifest:line", for error messages."""
        return f"{self.source}:{entry.line}"


def read_manifest(path: str | Path) -> Manifest:
    """Read a .tsv manifest; a large one through an index beside it (data/manifest_index.py), without taking it in.

    Raises InputError for a manifest that is missing, empty or no text, and for the first line that is not
    "path<TAB>samples".
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size >= INDEXED_FROM and (entries := manifest_index(path)) is not None:
        return Manifest(str(path), entries.root, entries)
    root, lines = manifest_lines(path)
    return Manifest(str(path), root, tuple(lines))


def manifest_digest(path: str | Path) -> str:
    """Return the SHA-256 of a manifest in hexadecimal digits; that of a large one stands in its index."""
    path = Path(path)
    if path.stat().st_size >= INDEXED_FROM:
        try:
            entries = manifest_index(path)
        except InputError:  # it is not a manifest, and whoever reads it as one will say so
            entries = None
        if entries is not None:
            return entries.digest
    return sha256(path)


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
