"""A corpus in a few uncompressed zips, for file systems that are slow with many small files.

Each recording is a slice ``file.zip:offset:length`` of a manifest, which this package and fairseq read without
unpacking; any zip program opens the files too.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.data.audio import audio_samples
from ccc_w2v.data.manifest import Manifest, all_labels, write_all_labels, write_manifest
from ccc_w2v.errors import InputError


def pack(manifest: Manifest, out: str | Path, sample_rate: int, max_bytes: int = 2**32) -> list[Path]:
    """Copy a manifest's recordings into zips of up to about ``max_bytes`` beside the manifest ``out``, and write that.

    Labels beside the manifest are copied, and their dictionaries. Every header is compared with the manifest before its
    file is packed. Files appear whole or not at all, the manifest last. Returns the zips. Raises InputError for a
    recording that cannot be packed, one that is a slice of a zip already, and for an ``out`` that is the manifest.
    """
    out = Path(out).resolve()
    if out == Path(manifest.source).resolve():
        raise InputError(f"{out}: is the manifest that is read; name another file to write")
    if max_bytes < 1:
        raise InputError(f"zips of {max_bytes} bytes: expected at least 1")
    labels = all_labels(manifest)
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = _Zips(out, max_bytes)
    try:
        slices = []
        for entry in tqdm(manifest.entries, desc=f"packing {Path(manifest.source).name}", unit="file"):
            where, path = manifest.where(entry), manifest.audio_path(entry)
            if not os.path.isfile(path) and ".zip:" in path:
                raise InputError(f"{where}: {path}: is in a zip already; pack the manifest of the files")
            found = audio_samples(path, sample_rate, where=where)
            if found != entry.samples:
                raise InputError(f"{where}: {path}: {found} samples, the manifest declares {entry.samples}")
            slices.append((writer.add(path, entry.path), entry.samples))
        zips = writer.finish()
    finally:
        writer.discard()
    write_all_labels(manifest, out, labels)
    write_manifest(out, out.parent, slices)
    return zips


class _Zips:
    """Zips written under temporary names, one after the other."""

    def __init__(self, out: Path, max_bytes: int) -> None:
        self.out, self.max_bytes = out, max_bytes
        self.finished: list[tuple[Path, Path]] = []
        self.open: zipfile.ZipFile | None = None

    def add(self, path: str, name: str) -> str:
        """Append a file's bytes under ``name``; return where they are, as a manifest says it."""
        size = os.path.getsize(path)
        if self.open is None or (self.open.start_dir and self.open.start_dir + size > self.max_bytes):
            self._next()
        assert self.open is not None
        info = zipfile.ZipInfo(name.lstrip("/"))
        with open(path, "rb") as source, self.open.open(info, "w", force_zip64=size > 2**31) as target:
            offset = self.open.fp.tell()
            shutil.copyfileobj(source, target, 1 << 20)
        return f"{self.finished[-1][1].name}:{offset}:{size}"

    def finish(self) -> list[Path]:
        """Close the last zip and give all their names; return them."""
        if self.open is not None:
            self.open.close()
        zips = []
        while self.finished:
            partial, final = self.finished.pop(0)
            os.replace(partial, final)
            zips.append(final)
        return zips

    def discard(self) -> None:
        """Remove what has not been given its name."""
        if self.open is not None:
            self.open.close()
        for partial, _ in self.finished:
            partial.unlink(missing_ok=True)

    def _next(self) -> None:
        if self.open is not None:
            self.open.close()
        final = self.out.with_name(f"{self.out.stem}_{len(self.finished):03}.zip")
        partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
        self.finished.append((partial, final))
        self.open = zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED)
