"""Recordings of a manifest that a transform draws from: noises, voices, music, impulse responses."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ccc_w2v.data.audio import audio_samples, read_samples
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError

CHECK_AT_START = 2000  # headers; a longer manifest is checked as it is read, not to keep a run waiting


class Recordings:
    """The recordings of one manifest, read by slice; the index is read once and inherited by forked data workers.

    ``key`` is the setting that the user gave the manifest by. Raises InputError for a manifest that is missing,
    malformed or empty, and for a recording of another rate, with more than one channel or of another length than
    listed: at once in a manifest of up to CHECK_AT_START lines, else when it is read.
    """

    def __init__(self, manifest: Path, sample_rate: int, key: str) -> None:
        if not Path(manifest).is_file():
            raise InputError(f"{manifest}: no such {key.replace('_', ' ')}; check task.{key}")
        self.manifest = read_manifest(manifest)
        self.sample_rate = sample_rate
        for index in range(len(self)) if self.checked_at_start else ():
            entry, where = self.manifest.entries[index], self.manifest.where(self.manifest.entries[index])
            found = audio_samples(self.manifest.audio_path(entry), sample_rate, where=where)
            if found != entry.samples:
                raise InputError(
                    f"{self.where(index)}: {found} samples, the manifest declares {entry.samples}; rewrite the manifest"
                )

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def checked_at_start(self) -> bool:
        """Whether the manifest is short enough for every recording to be looked at before a run begins."""
        return len(self) <= CHECK_AT_START

    def samples(self, index: int) -> int:
        """Return a recording's length as listed."""
        return self.manifest.entries[index].samples

    def read(self, index: int, start: int = 0, frames: int = -1) -> Tensor:
        """Return ``frames`` samples (N,) of a recording from ``start`` on, or all of it, on the CPU.

        Raises InputError for a file that cannot be decoded or that is not as listed, and for samples that are NaN or
        infinite.
        """
        entry = self.manifest.entries[index]
        wave = read_samples(
            self.manifest.audio_path(entry),
            self.sample_rate,
            where=self.manifest.where(entry),
            declared_samples=entry.samples,
            start=start,
            frames=frames,
        )
        samples_N = torch.from_numpy(wave)
        if not samples_N.dot(samples_N).isfinite():
            raise InputError(f"{self.where(index)}: holds samples that are NaN or infinite; replace the file")
        return samples_N

    def where(self, index: int) -> str:
        """Return "manifest:line: path", for error messages."""
        entry = self.manifest.entries[index]
        return f"{self.manifest.where(entry)}: {self.manifest.audio_path(entry)}"
