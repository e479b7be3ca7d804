"""LibriSpeech: 960 hours of read English and its four test sets, on which wav2vec 2.0 and its kin are compared.

Cut by Vassil Panayotov, Guoguo Chen, Daniel Povey and Sanjeev Khudanpur from LibriVox's audiobooks (ICASSP 2015),
OpenSLR 12, CC BY 4.0. Speakers whom a model of the Wall Street Journal understood well are "clean", the others "other".
The 292,367 utterances of 2,484 speakers are FLAC at 16 kHz, in seven archives of 61 GB together.

What `prepare` writes into a folder:
    LibriSpeech/<part>/                 what was fetched, unless a tree is given
    manifests/                          train_960, train_360, train_100, dev_clean, dev_other, test_clean, test_other:
                                        .tsv, .wrd, .ltr each; dict.ltr.txt
    parts/, librispeech.json            what was done, and every difference from what is published
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.corpora.download import DownloadError, digest_of, fetch_from_any, require_space, unpack
from ccc_w2v.corpora.librispeech.splits import Size, prepare_splits
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.shared_files import shared_folder

MIRRORS = (
    "https://www.openslr.org/resources/12",
    "https://us.openslr.org/resources/12",
    "https://openslr.elda.org/resources/12",
    "https://openslr.magicdatatech.com/resources/12",
)
TRAIN = ("train-clean-100", "train-clean-360", "train-other-500")
SPLITS = {"train_960": TRAIN, "train_360": TRAIN[1:2], "train_100": TRAIN[:1]} | {
    part.replace("-", "_"): (part,) for part in ("dev-clean", "dev-other", "test-clean", "test-other")
}
PARTS = tuple(dict.fromkeys(part for parts in SPLITS.values() for part in parts))
HOURS_APART = 0.1  # the published hours are rounded to this


@dataclass(frozen=True)
class Published:
    """One line of manifests/librispeech.tsv: ``hours`` are measured, ``paper_hours`` what the paper says."""

    bytes: int
    utterances: int
    speakers: int
    hours: float
    paper_hours: float


def published() -> dict[str, Published]:
    """Return what is published of each part, from manifests/librispeech.tsv."""
    lines = (shared_folder("manifests") / "librispeech.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {row[0]: Published(*map(int, row[1:4]), *map(float, row[4:])) for row in rows}


def hours_of(part: str) -> int:
    """Return the published hours of a part, rounded; 1 for what is none, which ``prepare`` refuses."""
    parts = published()
    return round(parts[part].hours) if part in parts else 1


def published_md5() -> dict[str, str]:
    """Return the MD5 of each archive by its name, from manifests/librispeech.md5."""
    lines = (shared_folder("manifests") / "librispeech.md5").read_text(encoding="utf-8").splitlines()
    return {name: md5 for md5, name in (line.split() for line in lines)}


def prepare(
    out: str | Path,
    parts: Sequence[str] = PARTS,
    *,
    source: str | Path | None = None,
    mirrors: Sequence[str] = MIRRORS,
    keep_archives: bool = False,
    leave_out_bad: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Fetch ``parts``, or take those of the extracted tree ``source``, and write splits; returns librispeech.json.

    A tree's recordings are read to their end, those of an archive have its MD5. Parts of earlier calls stay in the
    splits. Raises InputError for an unknown part, for one that ``source`` lacks, for an archive that no mirror gives
    whole, and for utterances that cannot be used, unless ``leave_out_bad``.
    """
    out = Path(out).resolve()
    if unknown := [part for part in parts if part not in PARTS]:
        raise InputError(f"unknown part '{unknown[0]}' of LibriSpeech; known: {', '.join(PARTS)}")
    if source is None:
        root = out / "LibriSpeech"
        for part in parts:
            archive, urls = f"{part}.tar.gz", [f"{mirror.rstrip('/')}/{part}.tar.gz" for mirror in mirrors]
            inside = Path("LibriSpeech", part)
            fetch_tree(out, archive, inside, urls, size=published()[part].bytes, keep_archive=keep_archives)
    else:
        root = find_root(Path(source), parts)
    return prepare_splits(
        out,
        root,
        parts,
        SPLITS,
        name="librispeech",
        differences=lambda part, size, speakers: [
            *_apart(part, size),
            *_absent_speakers(root / "SPEAKERS.TXT", part, speakers),
        ],
        decode=lambda part: source is not None or not _verified(out, part).is_file(),
        leave_out_bad=leave_out_bad,
        workers=workers,
    )


def find_root(folder: Path, parts: Sequence[str]) -> Path:
    """Return the folder that holds the parts: ``folder``, or LibriSpeech in it; raises InputError naming what lacks."""
    roots = [root for root in (folder, folder / "LibriSpeech") if any((root / part).is_dir() for part in PARTS)]
    if not roots:
        raise InputError(
            f"{folder}: does not hold LibriSpeech (folders {', '.join(PARTS)}); extract its archives there"
        )
    if lacking := [part for part in parts if not (roots[0] / part).is_dir()]:
        there = [part for part in PARTS if (roots[0] / part).is_dir()]
        raise InputError(f"{roots[0]}: lacks {', '.join(lacking)}; extract it there, or pass --parts {','.join(there)}")
    return roots[0]


def fetch_tree(
    out: Path, archive: str, inside: Path, urls: Sequence[str], *, size: int | None = None, keep_archive: bool = False
) -> None:
    """Make out/<inside> from the archive that holds it, if it is not there: fetched, compared with its MD5, unpacked.

    An archive that lies in out/download already is taken. What lies beside ``inside`` in the archive comes along.
    Raises InputError when no address gives it whole, and where its folder cannot be written.
    """
    path, target, md5 = out / "download" / archive, out / inside, published_md5()[archive]
    extracted = path.with_name(archive.split(".")[0])
    try:
        if not target.is_dir() and not extracted.is_dir():
            if path.is_file() and digest_of(path, "md5") != md5:
                raise InputError(f"{path}: its MD5 is not the published {md5}; delete it, and it is fetched")
            require_space(path.parent, archive, 0 if size is None else size * (1 if path.is_file() else 2))
            unpack(fetch_from_any(urls, path, md5, size), extracted)
    except DownloadError as error:
        raise InputError(f"{error}; call again, or put the archive into {path.parent}") from error
    if not target.is_dir():
        if not (extracted / inside).is_dir():
            raise InputError(f"{path}: holds no folder {inside}; delete {path.parent} and call again")
        target.parent.mkdir(parents=True, exist_ok=True)
        for text in (extracted / inside).parent.iterdir():
            if text.is_file():
                os.replace(text, target.parent / text.name)
        _verified(out, target.name).parent.mkdir(exist_ok=True)
        write_whole(_verified(out, target.name), f"{md5}  {archive}\n")
        os.replace(extracted / inside, target)
    shutil.rmtree(extracted, ignore_errors=True)
    if not keep_archive:
        path.unlink(missing_ok=True)


def _verified(out: Path, part: str) -> Path:
    """Return the file that says that a part came out of an archive of the right MD5."""
    return out / "parts" / f"{part}.md5"


def _apart(part: str, size: Size) -> list[str]:
    """Say in what a part differs from what is published of it."""
    expected = published()[part]
    differing = []
    for what in ("utterances", "speakers"):
        here, there = getattr(size, what), getattr(expected, what)
        if here != there:
            differing.append(f"{part}: {here} {what}, published {there}")
    if abs(size.hours - expected.hours) > HOURS_APART:
        differing.append(f"{part}: {size.hours:.2f} hours, published {expected.hours}")
    return differing


def _absent_speakers(table: Path, part: str, speakers: set[str]) -> list[str]:
    """Name the speakers whom SPEAKERS.TXT has in a part and the part has not; none where there is no such file."""
    if not table.is_file():
        return []
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if not line.startswith(";")]
    absent = sorted(({row[0] for row in rows if len(row) > 2 and row[2] == part} - speakers), key=int)
    return [f"{part}: no utterance of speakers {', '.join(absent)}"] if absent else []
