"""Datasets whose recordings are named and not read: ours and fairseq's, to measure what their lists cost."""

from __future__ import annotations

from typing import Any

from fairseq.data import FileAudioDataset

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.dataset.two_view import TwoViewDataset


class OursNamed(TwoViewDataset):
    """Our dataset; an utterance is the path that would be read."""

    def __getitem__(self, index: int) -> Any:
        return self.manifest.audio_path(self.entries[index])

    def collater(self, samples: Any) -> Any:
        """Return the paths."""
        return samples


class FairseqsNamed(FileAudioDataset):
    """fairseq's dataset; an utterance is the path that would be read."""

    def __getitem__(self, index: int) -> Any:
        name = self.fnames[index]
        return name if isinstance(self.fnames, list) else name.as_py()

    def collater(self, samples: Any) -> Any:
        """Return the paths."""
        return samples


def open_named(kind: str, path: str, sample_rate: int, *, max_sample_size: int, min_sample_size: int) -> Any:
    """Return "ours" or "fairseq"'s dataset of a manifest."""
    if kind == "fairseq":
        return FairseqsNamed(path, sample_rate, max_sample_size, min_sample_size)
    return OursNamed(
        read_manifest(path),
        load_pipeline("none", sample_rate),
        sample_rate,
        1,
        max_sample_size=max_sample_size,
        min_sample_size=min_sample_size,
        accept_left_out=True,
    )
