"""The .tsv manifest, in fairseq's format: the only code that knows it.

First line: the root folder. Every other line: a path relative to the root, a tab, the number of samples.
A path may be a slice of an uncompressed zip, ``file.zip:offset:length`` (bytes).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.errors import InputError
from ccc_w2v.text_files import read_lines, text_lines

# Transcripts beside a manifest, one line for each utterance: words, letters.
LABEL_KINDS = (".wrd", ".ltr")  # and every other one that has a dictionary beside it


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
        raise InputError(f"{path}: no such manifest; write one with tools/prepare_*.py or check task.data")
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


def read_labels(manifest: Manifest, kind: str) -> list[str] | None:
    """Read the labels beside a manifest (``kind`` is their suffix), one line per utterance; None where there are none.

    Raises InputError where their number is not that of the utterances.
    """
    path = Path(manifest.source).with_suffix(kind)
    if not path.is_file():
        return None
    lines = read_lines(path, "label file", "a line for each utterance")
    if len(lines) != len(manifest):
        raise InputError(f"{path}: {len(lines)} lines for {len(manifest)} utterances; write the labels again")
    return lines


def all_labels(manifest: Manifest) -> dict[str, list[str]]:
    """Read every kind of labels beside a manifest, by its suffix: .wrd, .ltr, and .X where there is a dict.X.txt.

    Raises InputError where the number of lines is not that of the utterances.
    """
    kinds = dict.fromkeys((*LABEL_KINDS, *(f".{path.name[5:-4]}" for path in _dictionaries(manifest.source))))
    found = {kind: read_labels(manifest, kind) for kind in kinds}
    return {kind: lines for kind, lines in found.items() if lines is not None}


def listing_paths(manifest: str | Path, kinds: Iterable[str]) -> list[Path]:
    """Return the path of a manifest and those of its labels of these kinds."""
    return [Path(manifest), *(Path(manifest).with_suffix(kind) for kind in kinds)]


def labelled_content(manifest: Manifest) -> dict[str, str]:
    """Return digests of a manifest and of each kind of its labels, by what they are."""
    paths = {"manifest": Path(manifest.source)}
    paths |= {f"labels {kind}": Path(manifest.source).with_suffix(kind) for kind in all_labels(manifest)}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}


def write_all_labels(manifest: Manifest, out: str | Path, labels: dict[str, list[str]]) -> None:
    """Write labels beside the manifest ``out``, and the dictionaries of the manifest that they come from with them."""
    out = Path(out)
    for kind, lines in labels.items():
        write_whole(out.with_suffix(kind), "".join(f"{line}\n" for line in lines))
    for dictionary in _dictionaries(manifest.source):
        if not (out.parent / dictionary.name).exists():
            write_whole(out.parent / dictionary.name, dictionary.read_bytes())


def _dictionaries(manifest: str | Path) -> list[Path]:
    return sorted(Path(manifest).parent.glob("dict.*.txt"))


def write_manifest(path: str | Path, root: str | Path, entries: Iterable[tuple[str, int]]) -> None:
    """Write a manifest of (path below root, samples) pairs; the file appears whole or not at all."""
    lines = [f"{root}\n", *(f"{name}\t{samples}\n" for name, samples in entries)]
    write_whole(path, "".join(lines))


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) through a temporary neighbour, so that a kill leaves the old file or the new one."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(partial, path)
    except OSError as error:
        # A write that fails names no file.
        error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)
