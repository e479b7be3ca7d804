"""The utterances of a manifest that a training uses, without a list of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.manifest_lines import Entries, Entry


class Utterances(Entries):
    """A manifest's utterances but for those at the positions ``left_out`` (ascending), numbered anew from 0.

    ``lengths`` (N,) are those of all utterances of the manifest, in samples. What is held is an array of what is left
    out, so that millions of utterances cost a process nothing but the manifest's index.
    """

    def __init__(self, manifest: Manifest, lengths: np.ndarray, left_out: np.ndarray) -> None:
        self.manifest, self.source = manifest, manifest.source
        # Of a large manifest this is the index's own array, which processes share; pickled, it would be a copy.
        self._lengths = None if lengths is manifest.samples else lengths
        kind: Any = np.uint32 if len(lengths) < 1 << 32 else np.int64
        self._left_out = left_out.astype(kind)
        # How many utterances are kept before each that is left out.
        self._kept_before = (left_out - np.arange(len(left_out))).astype(kind)

    def __len__(self) -> int:
        return len(self.manifest) - len(self._left_out)

    @property
    def sizes(self) -> np.ndarray:
        """The lengths (N,) in samples, int64: made for this call where any is left out."""
        lengths = self._all_lengths()
        return np.delete(lengths, self._left_out) if len(self._left_out) else lengths

    def position(self, index: int) -> int:
        """Return the position in the manifest of an utterance."""
        return index + int(np.searchsorted(self._kept_before, index, side="right"))

    def entry(self, position: int) -> Entry:
        """Return the utterance at a position."""
        return self.manifest.entries[self.position(position)]

    def size(self, index: int) -> int:
        """Return the length of an utterance in samples."""
        return int(self.sizes_of(np.array([index]))[0])

    def sizes_of(self, indices: np.ndarray) -> np.ndarray:
        """Return the lengths of several utterances in samples, int64."""
        before = np.searchsorted(self._kept_before, indices, side="right") if len(self._left_out) else 0
        return self._all_lengths()[indices + before]

    def _all_lengths(self) -> np.ndarray:
        return self.manifest.samples if self._lengths is None else self._lengths
