"""From listed folders to the manifests and labels of splits, in stages that a second call finds and passes over.

What is written below a folder `out`:
    parts/<folder>.{tsv,wrd,json}       a listed folder; the .json, written last, says of which tree
    manifests/<split>.{tsv,wrd,ltr}     one or several folders together; dict.ltr.txt
    <name>.json                         what was done, written last
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.corpora.labels import WORD_END, write_labels
from ccc_w2v.corpora.librispeech.tree import SAMPLE_RATE, list_utterances, name_of
from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.shared_files import shared_folder

LABEL_FILES = ("tsv", "wrd", "ltr")
SHOWN = 20  # bad utterances printed one by one


@dataclass(frozen=True)
class Size:
    """What a part or split holds."""

    utterances: int
    hours: float
    speakers: int


def prepare_splits(
    out: Path,
    root: Path,
    folders: Sequence[str],
    splits: Mapping[str, Sequence[str]],
    *,
    name: str,
    differences: Callable[[str, Size, set[str]], list[str]],
    decode: Callable[[str], bool],
    leave_out_bad: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """List ``folders`` of the tree ``root`` and write each split whose folders are all listed; returns <name>.json.

    ``differences`` compares a folder, its size and its speakers with what is published; ``decode`` says which folders
    are read to their end. Folders that earlier calls listed stay in the splits. Raises InputError for utterances that
    cannot be used, after naming them, unless ``leave_out_bad`` does without them.
    """
    root = Path(os.path.realpath(root))
    marker = out / f"{name}.json"
    missing = [folder for folder in folders if _listed(out, root, folder, leave_out_bad) is None]
    done = _read_json(marker)
    if not missing and done and done["root"] == str(root) and _all_there(out, done):
        print(f"{out / 'manifests'}: prepared already, from {root}; nothing to do")
        return done
    marker.unlink(missing_ok=True)
    for part in ("parts", "manifests"):
        (out / part).mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _list(out, root, folder, decode=decode(folder), leave_out_bad=leave_out_bad, workers=workers)
    every = dict.fromkeys(folder for members in splits.values() for folder in members)
    stages = {folder: stage for folder in every if (stage := _listed(out, root, folder, True))}
    found = [text for stage in stages.values() for text in stage["odd"]]
    for folder in stages:
        manifest = read_manifest(_part(out, folder, "tsv"))
        found += differences(folder, _size(manifest), _speakers(manifest))
    sizes, waiting = {}, {}
    for split, members in splits.items():
        lacking = [folder for folder in members if folder not in stages]
        if not lacking:
            sizes[split] = vars(_write_split(out, split, members))
        elif len(lacking) < len(members):
            waiting[split] = lacking
    write_whole(out / "manifests" / "dict.ltr.txt", letter_dictionary())
    done = {"root": str(root), "splits": sizes, "waiting": waiting, "differences": found}
    write_whole(marker, json.dumps(done, indent=1) + "\n")
    return done


def letter_dictionary() -> str:
    """Return fairseq's published letter dictionary: one order of outputs for every split and public checkpoint."""
    return (shared_folder("manifests") / "dict.ltr.txt").read_text(encoding="utf-8")


def _list(out: Path, root: Path, folder: str, *, decode: bool, leave_out_bad: bool, workers: int | None) -> None:
    """List one folder and write its stage files."""
    symbols = {line.split()[0] for line in letter_dictionary().splitlines()} - {WORD_END}
    listing = list_utterances(root, folder, symbols, decode=decode, workers=max(1, workers or os.cpu_count() or 1))
    for message in listing.bad[:SHOWN]:
        print(f"{'left out' if leave_out_bad else 'unusable'}: {message}")
    if listing.bad and (not leave_out_bad or not listing.entries):
        raise InputError(
            f"{root / folder}: {len(listing.bad)} of its utterances cannot be used, the first: {listing.bad[0]}; "
            "extract the archive again, or skip them with --leave-out-bad"
        )
    write_manifest(_part(out, folder, "tsv"), root, listing.entries)
    write_whole(_part(out, folder, "wrd"), "".join(f"{words}\n" for words in listing.words))
    odd = listing.odd + [f"left out: {message}" for message in listing.bad]
    stage = {"root": str(root), "decoded": decode, "left_out": len(listing.bad), "odd": odd}
    write_whole(_part(out, folder, "json"), json.dumps(stage, indent=1) + "\n")


def _listed(out: Path, root: Path, folder: str, leave_out_bad: bool) -> dict[str, Any] | None:
    """Return a folder's stage where it is listed, of this tree, and whole unless ``leave_out_bad``."""
    stage = _read_json(_part(out, folder, "json"))
    if stage is None or stage["root"] != str(root) or (stage["left_out"] and not leave_out_bad):
        return None
    return stage if all(_part(out, folder, kind).is_file() for kind in ("tsv", "wrd")) else None


def _write_split(out: Path, split: str, folders: Sequence[str]) -> Size:
    """Write a split's manifest and labels from its folders'."""
    manifests = [read_manifest(_part(out, folder, "tsv")) for folder in folders]
    entries = tuple(entry for manifest in manifests for entry in manifest.entries)
    words = [line for manifest in manifests for line in read_labels(manifest, ".wrd") or []]
    path = out / "manifests" / f"{split}.tsv"
    write_labels(path, words)
    write_manifest(path, manifests[0].root, [(entry.path, entry.samples) for entry in entries])
    return _size(Manifest(str(path), manifests[0].root, entries))


def _size(manifest: Manifest) -> Size:
    hours = sum(entry.samples for entry in manifest.entries) / SAMPLE_RATE / 3600
    return Size(len(manifest), round(hours, 4), len(_speakers(manifest)))


def _speakers(manifest: Manifest) -> set[str]:
    return {name_of(entry.path).split("-")[0] for entry in manifest.entries}


def _all_there(out: Path, done: dict[str, Any]) -> bool:
    files = [f"{split}.{kind}" for split in done["splits"] for kind in LABEL_FILES]
    return all((out / "manifests" / file).is_file() for file in (*files, "dict.ltr.txt"))


def _part(out: Path, folder: str, kind: str) -> Path:
    return out / "parts" / f"{folder.replace('/', '_')}.{kind}"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
