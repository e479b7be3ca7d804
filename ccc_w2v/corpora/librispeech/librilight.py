"""Libri-light's limited training sets: 10 minutes, 1 hour and 10 hours of LibriSpeech, for fine-tuning.

Chosen by Jacob Kahn and others for "Libri-Light" (arXiv 1912.07875): six folds of ten minutes of four speakers each,
half clean and half other, are the hour, and with nine more hours of 24 speakers the ten. Ten minutes are fold 0, as in
torchaudio and in fairseq's recipes.

What `prepare` writes into a folder: librispeech_finetuning/ if it is fetched, train_10m, train_1h and train_10h among
the manifests of LibriSpeech, parts/ and librilight.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ccc_w2v.corpora.librispeech.prepare import fetch_tree
from ccc_w2v.corpora.librispeech.splits import Size, prepare_splits
from ccc_w2v.errors import InputError

NAME = "librispeech_finetuning"
URL = f"https://dl.fbaipublicfiles.com/librilight/data/{NAME}.tgz"
HOUR = tuple(f"1h/{fold}" for fold in range(6))
FOLDERS = (*HOUR, "9h")
SPLITS = {"train_10m": HOUR[:1], "train_1h": HOUR, "train_10h": FOLDERS}
SPEAKERS = dict.fromkeys(HOUR, 4) | {"9h": 24}
HOURS = dict.fromkeys(HOUR, 1 / 6) | {"9h": 9.0}
SHARE_APART = 0.1  # of the time that a set is named after, which is rounded


def prepare(
    out: str | Path,
    *,
    source: str | Path | None = None,
    url: str = URL,
    leave_out_bad: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Fetch the limited sets, or take the extracted tree ``source``, and write their splits; returns librilight.json.

    Raises InputError as librispeech.prepare does.
    """
    out = Path(out).resolve()
    if source is None:
        fetch_tree(out, f"{NAME}.tgz", Path(NAME), [url])
        root = out / NAME
    else:
        root = _find_root(Path(source))
    return prepare_splits(
        out,
        root,
        FOLDERS,
        SPLITS,
        name="librilight",
        differences=_apart,
        decode=lambda _: source is not None,
        leave_out_bad=leave_out_bad,
        workers=workers,
    )


def _find_root(folder: Path) -> Path:
    for root in (folder, folder / NAME):
        if all((root / part).is_dir() for part in FOLDERS):
            return root
    raise InputError(
        f"{folder}: does not hold Libri-light's limited sets (folders 1h/0 to 1h/5, 9h); extract {NAME}.tgz"
    )


def _apart(folder: str, size: Size, _: set[str]) -> list[str]:
    """Say in what a folder differs from what Libri-light's data_preparation/README.md says of it."""
    problems = []
    if size.speakers != SPEAKERS[folder]:
        problems.append(f"{folder}: {size.speakers} speakers, published {SPEAKERS[folder]}")
    if abs(size.hours - HOURS[folder]) > SHARE_APART * HOURS[folder]:
        problems.append(f"{folder}: {size.hours * 60:.1f} minutes, published {HOURS[folder] * 60:.0f}")
    return problems
