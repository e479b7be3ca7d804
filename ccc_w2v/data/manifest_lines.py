"""The lines of a .tsv manifest: the only code that parses them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from ccc_w2v.errors import InputError
from ccc_w2v.text_files import text_lines

DIGITS = 18  # a number of samples that fits 64 bits


@dataclass(frozen=True)
class Entry:
    """One utterance: its path below the root, its length in samples, its line number in the manifest."""

    path: str
    samples: int
    line: int


class Entries(Sequence[Entry]):
    """Utterances that are made when they are asked for, one at a time or as a tuple for a slice."""

    @abstractmethod
    def entry(self, position: int) -> Entry:
        """Return the utterance at a position from 0 to the length less one."""

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        positions = range(len(self))[index]
        return self.entry(positions) if isinstance(positions, int) else tuple(map(self.entry, positions))


def manifest_lines(path: str | Path) -> tuple[str, Iterator[Entry]]:
    """Return a manifest's root folder and its utterances, which are parsed one by one.

    Raises InputError for a manifest that is missing, empty or no text, and, as they are parsed, for the first line that
    is not "path<TAB>samples" and for a manifest without any.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such manifest; check the path (in a training, task.data)")
    lines = text_lines(path, "manifest", "the audio's root folder, then lines of path<TAB>samples")
    root = next(lines, "")
    return root, _entries(path, root, lines)


def _entries(path: Path, root: str, lines: Iterator[str]) -> Iterator[Entry]:
    number = 1
    for number, line in enumerate(lines, start=2):
        yield _parse_line(path, number, line)
    # A faulty line says more than its missing head: what is no manifest at all is named by its first line.
    if not root:
        raise InputError(f"{path}:1: the first line must be the audio's root folder, found an empty line")
    if "\t" in root:
        raise InputError(f"{path}:1: the first line must be the audio's root folder alone, found {root!r}")
    if number == 1:
        raise InputError(f"{path}: the manifest lists no audio; expected lines of path<TAB>samples below the root line")


def _parse_line(path: Path, number: int, line: str) -> Entry:
    fields = line.rstrip("\n").split("\t")
    if len(fields) == 2 and fields[0] and fields[1].isdecimal() and len(fields[1]) <= DIGITS:
        samples = int(fields[1])
        if samples:
            return Entry(fields[0], samples, number)
    raise InputError(
        f"{path}:{number}: expected path<TAB>samples with a positive whole number of samples, "
        f"found {line.rstrip()!r}; write the manifest again"
    )
