"""A file or folder that appears whole or not at all: written as a temporary neighbour, renamed at the end."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccc_w2v.errors import InputError


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise InputError when ``path`` exists and may not be overwritten."""
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or overwrite it with --overwrite")


@contextmanager
def whole(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path beside ``out`` to write a file or a folder at; it takes ``out``'s place when the block succeeds.

    Raises InputError where ``out`` exists while ``overwrite`` is false, and where the disk refuses (full, a quota, a
    size limit): then nothing of it is left, and what stood at ``out`` still stands there.
    """
    refuse_existing(out, overwrite)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _publish(partial, out)
    except Exception as error:
        reason = _refusal_of_the_disk(error)
        if isinstance(error, InputError) or reason is None:
            raise
        raise InputError(
            f"{out}: cannot be written ({reason}), nothing was left behind; free some space or choose another place"
        ) from error
    finally:
        _remove(partial)


def _publish(partial: Path, out: Path) -> None:
    """Rename; a folder cannot be replaced, so the old one is moved aside first."""
    _open_to_others(partial)
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.is_dir() or (out.exists() and partial.is_dir()):
        os.replace(out, old)
    os.replace(partial, out)
    _remove(old)


def _open_to_others(path: Path) -> None:
    """Give files the rights that the user's umask gives: safetensors makes them readable for their owner alone."""
    os.umask(mask := os.umask(0))
    for file in path.iterdir() if path.is_dir() else [path]:
        file.chmod(0o666 & ~mask)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _refusal_of_the_disk(error: BaseException) -> str | None:
    """Return why the system refused to write: torch raises a RuntimeError over it, safetensors a class of its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return os.strerror(seen.errno) if seen.errno else str(seen)
        if "os error" in str(seen):
            return str(seen).partition("I/O error: ")[2] or str(seen)
        seen = seen.__cause__ or seen.__context__
    return None


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


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
