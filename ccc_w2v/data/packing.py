"""A corpus in a few uncompressed zips, for file systems that are slow with many small files.

Each recording is a slice ``file.zip:offset:length`` of a manifest, which this package and fairseq read without
unpacking; any zip program opens the files too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccc_w2v.data.audio import audio_samples
from ccc_w2v.data.labels import all_labels, write_all_labels
from ccc_w2v.data.manifest import Entry, Manifest, write_manifest
from ccc_w2v.data.packed import Packing, archive_path, archives_of, packed_output
from ccc_w2v.data.slices import member_of, segment_of
from ccc_w2v.data.stored_audio import is_stream
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing
from ccc_w2v.run_folder import check, claim, keep_record

ENCRYPTED = 1  # of a file's flags
# What zipfile raises for one damaged file or another.
DAMAGED_ZIP = (zipfile.BadZipFile, struct.error, OSError, ValueError, ArithmeticError, NotImplementedError, EOFError)


def pack(
    manifest: Manifest,
    out: str | Path,
    sample_rate: int,
    max_bytes: int = 2**32,
    *,
    lines: range | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Copy a manifest's recordings into zips of up to about ``max_bytes`` beside the manifest ``out``, and write that.

    Labels beside the manifest are copied, and their dictionaries; of a share, the ``lines`` at some places, none are.
    Every header is compared with the manifest before its file is packed. Files appear whole or not at all, the manifest
    last. Returns the zips: those that are there where the same was packed before. Raises InputError for something else
    at ``out`` (replaced with ``overwrite``), for a recording that cannot be packed, one that is a slice of a zip
    already, and for an ``out`` that is the manifest.
    """
    out = Path(out).resolve()
    output = packed_output(Packing("zip", manifest, out, sample_rate, max_bytes, lines))
    if check(output, overwrite=overwrite) and out.is_file() and all(path.is_file() for path in archives_of(out)):
        return archives_of(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _Zips(out, max_bytes) as writer:
        slices = []
        places = range(len(manifest)) if lines is None else lines
        for place in tqdm(places, desc=f"packing {Path(manifest.source).name}", unit="file"):
            entry = manifest.entries[place]
            path = _checked(manifest, entry, sample_rate)
            slices.append((writer.add(path, entry.path), entry.samples))
        writer.close()
        claim(output, overwrite=overwrite)
        keep_record(output)
        zips = writer.publish()
    if lines is None:
        write_all_labels(manifest, out, all_labels(manifest))
    write_manifest(out, out.parent, slices)
    return zips


def _checked(manifest: Manifest, entry: Entry, sample_rate: int) -> str:
    """Return the path of a recording once it is known to be a whole file whose header is as the manifest says."""
    where, path = manifest.where(entry), manifest.audio_path(entry)
    if not os.path.isfile(path) and (member_of(path) or is_stream(path)):
        raise InputError(
            f"{where}: {path}: is in an archive or elsewhere already; pack the manifest of the files, or give "
            "--format tar"
        )
    if segment_of(path):
        raise InputError(
            f"{where}: {path}: is a segment of a long recording, which is read where it is; only whole files are packed"
        )
    samples = audio_samples(path, sample_rate, where=where)
    if samples != entry.samples:
        raise InputError(f"{where}: {path}: {samples} samples, the manifest declares {entry.samples}")
    return path


def write_zip(path: str | Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files (name, content) into one uncompressed zip, which appears whole or not at all."""
    with appearing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content)


def zip_slices(path: str | Path) -> dict[str, str]:
    """Return where each file of an uncompressed zip is, as a manifest says it: name -> "file.zip:offset:length".

    Raises InputError for what is no zip, or a compressed one.
    """
    path, slices = Path(path), {}
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive, open(path, "rb") as content:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise InputError(
                        f"{path}: {info.filename} is compressed; recordings are read from stored ones only"
                    )
                # A file's own header, 30 bytes and its name, may be longer than what the directory says of it.
                content.seek(info.header_offset + 26)
                name_length, extra_length = struct.unpack("<HH", content.read(4))
                offset = info.header_offset + 30 + name_length + extra_length
                if offset + info.file_size > size or info.flag_bits & ENCRYPTED:
                    raise zipfile.BadZipFile(f"{info.filename[:80]!r} is encrypted or ends after the file")
                slices[info.filename] = f"{path.name}:{offset}:{info.file_size}"
    except (InputError, FileNotFoundError):
        raise
    except DAMAGED_ZIP as error:
        raise InputError(f"{path}: is no zip ({error}); remove it, and prepare the corpus again") from error
    return slices


class _Zips:
    """Zips written one after the other, which appear together when they are published, or not at all."""

    def __init__(self, out: Path, max_bytes: int) -> None:
        self.out, self.max_bytes = out, max_bytes
        self.paths: list[Path] = []
        self.pending = contextlib.ExitStack()
        self.open: zipfile.ZipFile | None = None

    def __enter__(self) -> _Zips:
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk may refuse even the end of a zip
            self.close()
        if self.open is not None and self.open.fp is not None:
            self.open.fp.close()
        self.pending.__exit__(*error)

    def add(self, path: str, name: str) -> str:
        """Append a file's bytes under ``name``; return where they are, as a manifest says it."""
        size = os.path.getsize(path)
        if self.open is None or (self.open.start_dir and self.open.start_dir + size > self.max_bytes):
            self._next()
        assert self.open is not None
        info = zipfile.ZipInfo(name.lstrip("/"))
        with open(path, "rb") as source, self.open.open(info, "w", force_zip64=size > 2**31) as target:
            assert self.open.fp is not None
            offset = self.open.fp.tell()
            shutil.copyfileobj(source, target, 1 << 20)
        return f"{self.paths[-1].name}:{offset}:{size}"

    def close(self) -> None:
        """Write the end of the last zip."""
        if self.open is not None:
            self.open.close()
            self.open = None

    def publish(self) -> list[Path]:
        """Give the closed zips their names; return them."""
        self.pending.close()
        return self.paths

    def _next(self) -> None:
        self.close()
        self.paths.append(archive_path(self.out, "zip", len(self.paths)))
        partial = self.pending.enter_context(appearing(self.paths[-1]))
        self.open = zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED)
