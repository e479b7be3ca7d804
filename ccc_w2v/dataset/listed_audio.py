"""A fairseq dataset of listed utterances: lengths, order and batches as arrays, for any number of utterances."""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
from fairseq.data.audio.raw_audio_dataset import RawAudioDataset

from ccc_w2v.data.left_out import name_left_out
from ccc_w2v.dataset.epochs import Batches, cut


class Listed(Protocol):
    """Utterances that have a length: those of a manifest, or of several."""

    source: str

    def __len__(self) -> int: ...

    @property
    def sizes(self) -> np.ndarray:
        """All lengths (N,) in samples, int64."""

    def sizes_of(self, indices: np.ndarray) -> np.ndarray:
        """Return the lengths of several utterances in samples, int64."""

    def size(self, index: int) -> int:
        """Return the length of one."""


class ListedAudio(RawAudioDataset):
    """Utterances by their lengths; order and batches are those that fairseq makes of any audio."""

    def __init__(
        self,
        entries: Listed,
        sample_rate: int,
        max_sample_size: int | None,
        min_sample_size: int,
        shuffle: bool,
        pad: bool,
        normalize: bool,
    ) -> None:
        super().__init__(sample_rate, max_sample_size, min_sample_size, shuffle, pad, normalize)
        self.entries: Any = entries

    @property
    def source(self) -> str:
        """Where the utterances stand, for messages."""
        return self.entries.source

    @property
    def sizes(self) -> np.ndarray:
        """The lengths (N,) of all utterances in samples, whole."""
        return self.entries.sizes

    @sizes.setter
    def sizes(self, nothing: list[int]) -> None:
        """Leave out the empty list that fairseq's constructor begins with."""

    def __len__(self) -> int:
        return len(self.entries)

    def shortest_crop(self) -> int:
        """Return the samples of the shortest crop that an epoch may hold."""
        return min(int(self.sizes.min()), self.max_sample_size)

    def name_too_long(self, max_tokens: int | None, *, accepted: bool) -> None:
        """Log which share fairseq leaves out since one crop is more than a batch of ``max_tokens``.

        Raises InputError where that is more than half, unless accepted.
        """
        if not max_tokens or max_tokens >= self.max_sample_size:
            return
        lengths = self._cropped(self.sizes)
        too_long = lengths[lengths > max_tokens]
        why = f"longer than dataset.max_tokens={max_tokens}, not cropped by task.max_sample_size,"
        name_left_out(self.source, too_long, lengths, self.sample_rate, why, accepted=accepted)

    def longest_crop(self, max_tokens: int | None, batch_size: int | None) -> int:
        """Return the samples of the longest crop that an epoch is sure to hold.

        fairseq leaves out what is longer than ``max_tokens``; a batch without padding is cropped to its shortest.
        """
        sizes = self._cropped(self.sizes)
        if max_tokens and max_tokens < self.max_sample_size:
            sizes = sizes[sizes <= max_tokens]
        if not len(sizes):
            return 0
        longest = int(sizes.max())
        if self.pad:
            return longest
        together = min(batch_size or len(sizes), max_tokens // longest if max_tokens else len(sizes), len(sizes))
        return int(np.partition(sizes, -max(together, 1))[-max(together, 1)])

    def _cropped(self, sizes: np.ndarray) -> np.ndarray:
        """Return lengths after the crop to max_sample_size: a copy only where there is one."""
        return np.minimum(sizes, self.max_sample_size) if self.max_sample_size < sys.maxsize else sizes

    def size(self, index: int) -> int:
        """Return the samples of an utterance as fairseq counts them in a batch: cropped, or whole where padded."""
        samples = self.entries.size(index)
        return samples if self.pad else min(samples, self.max_sample_size)

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Return the sizes of several utterances, int64; see size."""
        sizes = self.entries.sizes_of(indices)
        return sizes if self.pad else self._cropped(sizes)

    def batch_by_size(
        self,
        indices: np.ndarray,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> Batches:
        """Cut utterances, in their order, into fairseq's batches, as arrays."""
        return cut(
            indices,
            lambda chunk: super(ListedAudio, self).batch_by_size(
                chunk, max_tokens, max_sentences, required_batch_size_multiple
            ),
        )
