"""Where a manifest's recordings are stored: a file, a slice of a zip or tar, an address, a row of a Hub data set.

speaker/utterance.flac                  a file below the manifest's root
file.zip:offset:length                  bytes of an uncompressed zip or tar
https://host/file.tar:offset:length     the same on a network, as is https://host/utterance.flac
hub:name/config/split/row               audio of a row of a Hugging Face data set
"""

from __future__ import annotations

import io
import os
import tarfile

from ccc_w2v.data import hub, remote
from ccc_w2v.data.remote import PATIENCE, Patience
from ccc_w2v.data.slices import Slice, member_of
from ccc_w2v.errors import InputError


def is_stream(path: str) -> bool:
    """Tell whether a recording, or a manifest's root, is not on a file system of this machine."""
    return remote.is_address(path) or hub.is_hub(path)


def stored_audio(path: str, patience: Patience = PATIENCE) -> str | bytes:
    """Return the bytes of a recording, or the path of a file to read.

    Raises InputError for a slice that is not inside its archive, FileNotFoundError for a file that is not there, and as
    read_range and a Hub data set do.
    """
    if hub.is_hub(path):
        return hub.stored_row(path)
    part = member_of(path)
    if remote.is_address(path):
        return (
            remote.read_range(part.file, part.start, part.length, patience) if part else remote.read_all(path, patience)
        )
    if not os.path.isfile(part.file if part else path):
        raise FileNotFoundError(path)
    if part is None:
        return path
    with open(part.file, "rb") as archive:
        size = os.fstat(archive.fileno()).st_size
        if part.start + part.length > size:
            raise InputError(
                f"the slice {part.start}:{part.length} ends after the {size} bytes of its archive; pack the corpus "
                "again"
            )
        archive.seek(part.start)
        return archive.read(part.length)


def audio_bytes(path: str, patience: Patience = PATIENCE) -> bytes:
    """Return the bytes of a recording wherever it is stored; raises as stored_audio does."""
    stored = stored_audio(path, patience)
    if isinstance(stored, bytes):
        return stored
    with open(stored, "rb") as file:
        return file.read()


def with_member(error: InputError, path: str, patience: Patience = PATIENCE) -> InputError:
    """Return an error about a recording with the name that it has in its tar, where its header can be read."""
    part = member_of(path)
    if part is None or not part.file.endswith(".tar") or part.start < tarfile.BLOCKSIZE:
        return error
    try:
        header = audio_bytes(str(Slice(part.file, part.start - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)), patience)
        name = tarfile.TarInfo.frombuf(header, "utf-8", "replace").name
    except (InputError, OSError, tarfile.TarError):
        return error
    return type(error)(f"{error} (member {name})")


def as_source(stored: str | bytes) -> tuple[str | io.BytesIO, int]:
    """Return what soundfile opens, and its size in bytes."""
    return (stored, os.path.getsize(stored)) if isinstance(stored, str) else (io.BytesIO(stored), len(stored))
