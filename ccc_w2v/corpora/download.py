"""Downloads that resume where they stopped, are compared with a checksum, and are unpacked whole or not at all."""

from __future__ import annotations

import gzip
import http.client
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from ccc_w2v.errors import InputError, cannot_write
from ccc_w2v.files import appearing, digest
from ccc_w2v.shared_files import shared_folder

TIMEOUT_SECONDS = 5
ATTEMPTS = 3
# Gigabytes take hours, in which more connections than three may end.
LONG_ATTEMPTS = 50
# Waited after a connection that brought nothing, longer each time: a network that is away for a moment comes back.
PAUSE_SECONDS = 2.0
BLOCK = 1 << 16

Checksum = tuple[str, str]  # name of the algorithm, hexadecimal digest


class DownloadError(Exception):
    """An archive cannot be had, or is not what it should be."""


@dataclass(frozen=True)
class Archive:
    """One line of manifests/archives.tsv."""

    name: str
    url: str
    size: int
    md5: str


def pinned_archive(name: str) -> Archive:
    """Return an archive's address, size and checksum from manifests/archives.tsv."""
    lines = (shared_folder("manifests") / "archives.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    archives = {row[0]: Archive(row[0], row[1], int(row[2]), row[3]) for row in rows}
    return archives[name]


def fetch_corpus(archive: Archive, downloads: Path, url: str | None = None) -> Path:
    """Return the unpacked folder of an archive below ``downloads``, fetched from ``url`` instead of its own address.

    Raises InputError when it cannot be fetched, or is damaged; the same command resumes.
    """
    folder = downloads / archive.name
    if folder.is_dir():
        return folder
    url = url or archive.url
    require_space(downloads, archive.name, 2 * archive.size)
    try:
        path = fetch(url, downloads / url.rsplit("/", 1)[1], lambda: ("md5", archive.md5), attempts=LONG_ATTEMPTS)
        unpack(path, folder)
    except DownloadError as error:
        raise InputError(
            f"{error}; call again, or unpack the archive yourself and pass its folder as --from"
        ) from error
    return folder


def require_space(folder: Path, name: str, needed: int) -> None:
    """Make ``folder``; raises InputError where its disk has not the bytes that ``name`` takes, archive included."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: {free / 1e9:.1f} GB free, {name} takes about {needed / 1e9:.1f} GB, "
            "archive included; make room or name another folder"
        )


def fetch_from_any(urls: Sequence[str], path: Path, md5: str, size: int | None = None) -> Path:
    """Fetch a file from the first of several addresses that has it, each resuming from what the others brought.

    Raises DownloadError with what each of them answered.
    """
    failures = []
    for url in urls:
        try:
            return fetch(url, path, lambda: ("md5", md5), attempts=LONG_ATTEMPTS, size=size)
        except DownloadError as error:
            failures.append(str(error))
            if len(failures) < len(urls):
                print(f"{error}, asking the next mirror")
    raise DownloadError("; ".join(failures))


def fetch(
    url: str,
    path: Path,
    checksum: Callable[[], Checksum | None],
    *,
    attempts: int = ATTEMPTS,
    size: int | None = None,
) -> Path:
    """Fetch a file, resuming from a partial one, and compare it with its checksum, asked for once the file is there.

    Raises DownloadError when the connection fails ``attempts`` times, or ATTEMPTS times in a row without a byte, when
    the server offers another ``size``, and for another checksum; InputError where the file cannot be written.
    """
    if path.is_file():
        return path
    with appearing(path, resumable=True) as partial:
        _fetch_all(url, partial, attempts, size)
        expected = checksum()
        if expected is not None and digest_of(partial, expected[0]) != expected[1]:
            partial.unlink()
            kind = expected[0].upper().replace("SHA", "SHA-")
            raise DownloadError(f"{url}: its {kind} is not the published {expected[1]}; the download was discarded")
    return path


def _fetch_all(url: str, partial: Path, attempts: int, size: int | None) -> None:
    """Append to ``partial`` until the file is whole; raises DownloadError as fetch does."""
    idle = 0
    for attempt in range(1, attempts + 1):
        before = _size(partial)
        try:
            _append(url, partial, size)
            return
        except (OSError, http.client.HTTPException) as error:
            idle = idle + 1 if _size(partial) == before else 0
            # What never began to arrive is not asked for again.
            if attempt == attempts or idle == ATTEMPTS or not partial.is_file():
                raise DownloadError(f"{url} cannot be fetched ({getattr(error, 'reason', error)})") from error
            time.sleep(PAUSE_SECONDS * idle)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz or .zip into ``folder``, which appears whole.

    Raises DownloadError for a damaged archive, which is deleted, and InputError where ``folder`` cannot be written.
    """
    neighbour = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(neighbour, ignore_errors=True)  # a kill's, which may hold gigabytes
    bar = {"desc": f"unpacking {archive.name}", "unit": "file", "leave": False}
    try:
        # Not flushed: there are very many files, and the archive can be unpacked again.
        with appearing(folder, durable=False, neighbour=neighbour) as partial:
            partial.mkdir()
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as file:
                    for member in tqdm(file.infolist(), **bar):
                        file.extract(member, partial)
            else:
                with tarfile.open(archive) as file:
                    for member in tqdm(file, **bar):
                        file.extract(member, partial, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise DownloadError(f"{archive.name} is damaged ({error})") from error
    except OSError as error:
        raise cannot_write(folder, error) from error


def _append(url: str, partial: Path, size: int | None) -> None:
    """Append to ``partial`` what it lacks of a file; raises OSError when the connection ends before the file does."""
    start = _size(partial)
    if start and start == size:
        return
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    except ValueError as error:
        raise DownloadError(f"{url}: is no address ({error})") from error
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        # 416: nothing lies beyond what is here, so the whole file had arrived before a kill.
        if error.code == 416:
            return
        raise
    with response:
        # A server that does not know ranges sends the whole file again.
        start = start if response.status == 206 else 0
        total = start + int(response.headers.get("Content-Length") or 0)
        if size is not None and total not in (start, size):
            # A page that says sorry, say: what has arrived from elsewhere is not given up for it.
            raise DownloadError(f"{url}: offers {total} bytes, the archive has {size}")
        bar = tqdm(desc=url.rsplit("/", 1)[1], total=total, initial=start, unit="B", unit_scale=True, leave=False)
        with _open(partial, "ab" if start else "wb") as file, bar:
            while block := response.read(BLOCK):
                _write(file, block, partial)
                bar.update(len(block))
    if _size(partial) < (size or total):
        raise OSError(f"the connection ended after {_size(partial)} of {size or total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _open(path: Path, mode: str) -> IO[Any]:
    """Open without a buffer: what cannot be written is known at once, and not taken for the network's fault."""
    try:
        return open(path, mode, buffering=0)
    except OSError as error:
        raise cannot_write(path, error) from error


def _write(file: IO[Any], block: bytes, path: Path) -> None:
    left = memoryview(block)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise cannot_write(path, error) from error


def digest_of(path: Path, algorithm: str) -> str:
    """Return a file's hexadecimal digest, read with a progress bar."""
    size = path.stat().st_size
    with tqdm(desc="checksum", total=size, unit="B", unit_scale=True, leave=False) as bar:
        return digest(path, algorithm, bar.update)
