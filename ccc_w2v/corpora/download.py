"""Downloads that go on where they stopped, are compared with a checksum, and are unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.errors import InputError
from ccc_w2v.shared_files import shared_folder

TIMEOUT_SECONDS = 5
ATTEMPTS = 3
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

    Raises InputError when it cannot be fetched, or is damaged; the same command goes on from what has arrived.
    """
    folder = downloads / archive.name
    if folder.is_dir():
        return folder
    url = url or archive.url
    downloads.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * archive.size, shutil.disk_usage(downloads).free
    if free < needed:
        raise InputError(
            f"{downloads}: {free / 1e9:.1f} GB free, {archive.name} takes about {needed / 1e9:.1f} GB, "
            "archive included; make room or name another folder"
        )
    try:
        # Gigabytes take hours, in which more connections than three may end.
        path = fetch(url, downloads / url.rsplit("/", 1)[1], lambda: ("md5", archive.md5), attempts=50)
        unpack(path, folder)
    except DownloadError as error:
        raise InputError(
            f"{error}; call again, or unpack the archive yourself and pass its folder as --source"
        ) from error
    return folder


def fetch(url: str, path: Path, checksum: Callable[[], Checksum | None], *, attempts: int = ATTEMPTS) -> Path:
    """Fetch a file, going on from a partial one, and compare it with its checksum, asked for once the file is there.

    Raises DownloadError when the connection fails ``attempts`` times, and for another checksum.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    for attempt in range(1, attempts + 1):
        try:
            _append(url, partial)
            break
        except (OSError, http.client.HTTPException) as error:
            # What never began to arrive is not asked for again.
            if attempt == attempts or not partial.is_file():
                raise DownloadError(f"{url} cannot be fetched ({getattr(error, 'reason', error)})") from error
    expected = checksum()
    if expected is not None and _digest(partial, expected[0]) != expected[1]:
        partial.unlink()
        kind = expected[0].upper().replace("SHA", "SHA-")
        raise DownloadError(f"{url}: its {kind} is not the published {expected[1]}; the download was discarded")
    os.replace(partial, path)
    return path


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz or .zip into ``folder``, which appears whole; raises DownloadError and deletes a damaged one."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    bar = {"desc": f"unpacking {archive.name}", "unit": "file", "leave": False}
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                for member in tqdm(file.infolist(), **bar):
                    file.extract(member, partial)
        else:
            with tarfile.open(archive) as file:
                for member in tqdm(file, **bar):
                    file.extract(member, partial, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        archive.unlink()
        raise DownloadError(f"{archive.name} is damaged ({error})") from error
    os.replace(partial, folder)


def _append(url: str, partial: Path) -> None:
    """Append to ``partial`` what it lacks of a file; raises OSError when the connection ends before the file does."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
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
        bar = tqdm(desc=url.rsplit("/", 1)[1], total=total, initial=start, unit="B", unit_scale=True, leave=False)
        with open(partial, "ab" if start else "wb") as file, bar:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if partial.stat().st_size < total:
        raise OSError(f"the connection ended after {partial.stat().st_size} of {total} bytes")


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    size = path.stat().st_size
    with open(path, "rb") as file, tqdm(desc="checksum", total=size, unit="B", unit_scale=True, leave=False) as bar:
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
