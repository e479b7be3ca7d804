"""Labels beside a manifest, a line for each utterance: .wrd (words), .ltr (letters), .X where there is a dict.X.txt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.text_files import read_lines

# Transcripts beside a manifest, one line for each utterance: words, letters.
LABEL_KINDS = (".wrd", ".ltr")  # and every other one that has a dictionary beside it


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
    labels_of = {kind: read_labels(manifest, kind) for kind in kinds}
    return {kind: lines for kind, lines in labels_of.items() if lines is not None}


def listing_paths(manifest: str | Path, kinds: Iterable[str]) -> list[Path]:
    """Return the path of a manifest and those of its labels of these kinds."""
    return [Path(manifest), *(Path(manifest).with_suffix(kind) for kind in kinds)]


def labelled_content(manifest: Manifest) -> dict[str, str]:
    """Return digests of a manifest and of each kind of its labels, by what they are."""
    paths = {"manifest": Path(manifest.source)}
    paths |= {f"labels {kind}": Path(manifest.source).with_suffix(kind) for kind in all_labels(manifest)}
    return {name: sha256(path) for name, path in paths.items()}


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


def read_references(manifest: Manifest) -> list[str] | None:
    """Read <split>.wrd beside the manifest, one transcript per utterance in its order; None where there is none.

    Raises InputError as read_labels does.
    """
    transcripts = read_labels(manifest, ".wrd")
    return None if transcripts is None else [" ".join(line.split()) for line in transcripts]
