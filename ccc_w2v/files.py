"""A file or folder that appears whole or not at all: written as a temporary neighbour, renamed at the end."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ccc_w2v.errors import DISK_FULL, InputError


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise InputError when ``path`` exists and may not be overwritten."""
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or overwrite it with --overwrite")


@contextmanager
def appearing(
    path: str | Path,
    *,
    durable: bool = True,
    parents: bool = True,
    neighbour: Path | None = None,
    resumable: bool = False,
    keep_equal: bool = False,
) -> Iterator[Path]:
    """Give a neighbour of ``path`` to write a file or a folder at; it takes the place of ``path`` as the block ends.

    A kill, or an error in the block, leaves what stood at ``path``; an OSError names ``path`` where it names the
    neighbour or nothing. ``durable``: its data is on the disk before it is renamed, so that a crash of the machine does
    not leave an empty file either; needless where there are very many files that can be made again. ``parents``: the
    folders above it are made. ``neighbour`` is where to write, if not at a name of this process's own. ``resumable``:
    the neighbour has one name for all processes and stays after an error, for the next call to continue.
    ``keep_equal``: a file at ``path`` with the same content is left as it is, its time too.
    """
    path = Path(path)
    name = f".{path.name}.partial" if resumable else f".{path.name}.{os.getpid()}.partial"
    partial = neighbour or path.with_name(name)
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _open_to_others(partial)
        if not (keep_equal and path.is_file() and sha256(path) == sha256(partial)):
            if durable:
                _flush(partial)
            _publish(partial, path)
    except OSError as error:
        # A failed write names no file, and the neighbour says nothing to a user.
        if error.filename is None or os.fspath(error.filename) == str(partial):
            error.filename = str(path)
        raise
    finally:
        if not resumable:
            _remove(partial)


@contextmanager
def whole(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Do as appearing does for what a user has named: existing output and a disk that refuses are one clear sentence.

    Raises InputError where ``out`` exists while ``overwrite`` is false, and where the disk refuses (full, a quota, a
    size limit): then nothing of it is left, and what stood at ``out`` still stands there.
    """
    refuse_existing(out, overwrite)
    try:
        with appearing(out) as partial:
            yield partial
    except Exception as error:
        reason = _refusal_of_the_disk(error)
        if isinstance(error, InputError) or reason is None:
            raise
        raise InputError(
            f"{out}: cannot be written ({reason}), nothing was left behind; free some space or choose another place"
        ) from error


def _files_of(path: Path) -> list[Path]:
    return [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]


def _flush(path: Path) -> None:
    for file in _files_of(path):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _publish(partial: Path, out: Path) -> None:
    """Rename; a folder cannot be replaced, so the old one is moved aside first."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.is_dir() or (out.exists() and partial.is_dir()):
        os.replace(out, old)
    os.replace(partial, out)
    _remove(old)


def _open_to_others(path: Path) -> None:
    """Give files the rights that the user's umask gives: safetensors makes them readable for their owner alone."""
    os.umask(mask := os.umask(0))
    for file in _files_of(path):
        file.chmod(0o666 & ~mask)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: torch and safetensors report trouble of their own over the system's."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def full_disk(error: BaseException) -> OSError | None:
    """Return what says among an error's causes that a disk, a quota or a size limit is full; None for other errors."""
    return next((cause for cause in causes(error) if isinstance(cause, OSError) and cause.errno in DISK_FULL), None)


def _refusal_of_the_disk(error: BaseException) -> str | None:
    """Return why the system refused to write: torch raises a RuntimeError over it, safetensors a class of its own."""
    for cause in causes(error):
        if isinstance(cause, OSError):
            return os.strerror(cause.errno) if cause.errno else str(cause)
        if "os error" in str(cause):
            return str(cause).partition("I/O error: ")[2] or str(cause)
    return None


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) so that a kill leaves the old file or the new one; raises OSError, naming it.

    The folder must be there: of a mistyped path nothing is made.
    """
    with appearing(path, parents=False) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def complete_lines(journal: Path) -> bytes:
    """Return a journal up to its last line break, behind which a kill can leave half a line; nothing for no file."""
    content = journal.read_bytes() if journal.is_file() else b""
    return content[: content.rfind(b"\n") + 1]


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return digest(path, "sha256")


def digest(path: str | Path, algorithm: str, progress: Callable[[int], object] | None = None) -> str:
    """Return a file's digest, in hexadecimal digits; ``progress`` hears how many bytes were read each time."""
    running = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            running.update(block)
            if progress:
                progress(len(block))
    return running.hexdigest()
