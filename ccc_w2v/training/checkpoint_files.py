"""Checkpoint files that are whole or not there: written beside their name first, checked before a training resumes.

fairseq writes the first file of a save to a temporary neighbour, but copies it over checkpoint_last.pt in place: a kill
or a full disk at that moment would cost the previous one.
"""

from __future__ import annotations

import logging
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing, full_disk

logger = logging.getLogger(__name__)

ATTEMPTS, PAUSE_S = 3, 2.5  # fairseq's: a network disk may be away for a moment
LAST = "checkpoint_last.pt"


def save_whole(state: Any, path: str | Path) -> None:
    """Write a checkpoint by torch.save so that ``path`` is the old or the new file at any moment.

    Raises InputError on a full disk; another failure is tried again, from the file's start, and then raised.
    """

    def write(neighbour: Path) -> None:
        with open(neighbour, "wb") as file:
            torch.save(state, file)

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _replace(path, write)
        except InputError:
            raise
        except Exception:
            if attempt == ATTEMPTS:
                raise
            logger.warning(f"{path}: cannot be written, trying again", exc_info=True)
            time.sleep(PAUSE_S)


def copy_whole(source: str | Path, path: str | Path) -> bool:
    """Copy a file so that ``path`` is the old or the new one at any moment; returns True. Raises as save_whole does."""
    _replace(path, lambda neighbour: shutil.copyfile(source, neighbour))
    return True


def _replace(path: str | Path, write: Callable[[Path], Any]) -> None:
    # fairseq's folder is relative to the run's, which a reader of the message need not know.
    path = Path(path).absolute()
    try:
        # Always the same: a gigabyte that a kill leaves is overwritten by the next save.
        with appearing(path, neighbour=path.with_name(path.name + ".tmp")) as neighbour:
            write(neighbour)
    except Exception as error:
        cause = full_disk(error)
        if cause is None:
            raise
        raise InputError(
            f"{path}: cannot be written ({cause.strerror}); the checkpoints before it are whole: free some space, then "
            "the same command resumes from the last of them"
        ) from error


def why_damaged(path: str | Path) -> str | None:
    """Read a checkpoint to its end and say what is wrong with it; None when each of its checksums is right."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, OSError, zlib.error, EOFError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    return f"the checksum of {wrong} is wrong" if wrong else None


def restore_last(save_dir: str | Path) -> Path | None:
    """Put the newest whole checkpoint of a folder in the place of a checkpoint_last.pt that is damaged or missing.

    Returns the checkpoint that was taken, None where nothing had to be done. Raises InputError when there are
    checkpoints and none is whole: to start over silently would overwrite them.
    """
    last = Path(save_dir).absolute() / LAST
    found = "missing"
    if last.exists():
        damage = why_damaged(last)
        if damage is None:
            return None
        found = f"damaged ({damage})"
    others = sorted((path for path in last.parent.glob("checkpoint*.pt") if path != last), key=_age)
    for path in others:
        if why_damaged(path) is None:
            copy_whole(path, last)
            logger.warning(f"{last} is {found}; resuming from {path.name}, the newest whole checkpoint")
            return path
    if damaged := len(others) + last.exists():
        raise InputError(
            f"{last} is {found} and there is no whole checkpoint beside it; move the {damaged} damaged away to start "
            "over, or set checkpoint.restore_file"
        )
    return None


def _age(path: Path) -> float:
    return -path.stat().st_mtime
