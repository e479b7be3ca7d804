"""Aligned phones or letters of the frames of crops: `ccc-w2v align`'s file, read once, as numbers.

Letters: N labels of an utterance, T frames.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ccc_w2v.capacity import convolutions
from ccc_w2v.data.alignments import NOT_PHONES, AlignedLabel, Alignments, read_alignments
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)

NONE = -1
# A CTC network marks a label in a frame or two; what is farther from its frames than this is a pause.
NEAR_SECONDS = 0.1


@dataclass(frozen=True)
class FrameLayout:
    """How a feature encoder makes frames of samples: its convolutions, (kernel, stride) of each."""

    convolutions: tuple[tuple[int, int], ...]

    def frames(self, samples: int) -> int:
        """Return how many frames there are of so many samples."""
        for kernel, stride in self.convolutions:
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    @property
    def stride(self) -> int:
        """Samples from the start of a frame to that of the next."""
        return math.prod(stride for _, stride in self.convolutions)


def layout_of(model: Any) -> FrameLayout:
    """Return the layout of a wav2vec 2.0 model."""
    return FrameLayout(tuple((layer.kernel_size[0], layer.stride[0]) for layer in convolutions(model)))


@dataclass(frozen=True)
class AlignedUtterance:
    """The labels of an utterance in the order of time: classes, start and end in seconds, borders half way between."""

    classes_N: torch.Tensor
    start_N: torch.Tensor
    end_N: torch.Tensor
    borders: torch.Tensor  # (N - 1), seconds

    def at(self, seconds_T: torch.Tensor) -> torch.Tensor:
        """Return the class of the label nearest to each moment, (T); -1 where it is over 0.1 s away, or no phone."""
        owner_T = torch.bucketize(seconds_T, self.borders, right=True)
        near_T = seconds_T >= self.start_N[owner_T] - NEAR_SECONDS
        near_T &= seconds_T <= self.end_N[owner_T] + NEAR_SECONDS
        return torch.where(near_T, self.classes_N[owner_T], NONE)


@dataclass(frozen=True)
class FrameLabels:
    """The aligned utterances of a manifest by their path, for crops at a sample rate [Hz]."""

    utterances: Mapping[str, AlignedUtterance]
    layout: FrameLayout
    sample_rate: int

    def of(self, path: str, start: int, samples: int) -> torch.Tensor:
        """Return the class of each frame of a crop, which begins at a sample of the recording: (T), -1 for none.

        A frame stands for the stride that it begins with, as the aligning network's frames do.
        """
        frames = self.layout.frames(samples)
        utterance = self.utterances.get(path)
        if utterance is None:
            return torch.full((frames,), NONE)
        middle_T = start + (torch.arange(frames, dtype=torch.float64) + 0.5) * self.layout.stride
        return utterance.at(middle_T / self.sample_rate)


def frame_labels(path: str, manifest: Manifest, layout: FrameLayout, sample_rate: int) -> FrameLabels:
    """Read alignments for a manifest's utterances; logs how many of them have any.

    Raises InputError as read_alignments does, and where none of the utterances is aligned or all labels are alike.
    """
    aligned = _aligned(path, read_alignments(path), manifest)
    if not aligned:
        raise InputError(
            f"task.annotations={path}: has none of the utterances of {manifest.source}; align utterances of it with "
            "ccc-w2v align"
        )
    kinds = sorted({row.label for rows in aligned.values() for row in rows} - set(NOT_PHONES))
    if len(kinds) < 2:
        raise InputError(f"task.annotations={path}: expected two different labels or more, found {', '.join(kinds)}")
    class_of = {kind: number for number, kind in enumerate(kinds)}
    logger.info("%s: %d of %d utterances are aligned, %d labels", path, len(aligned), len(manifest), len(kinds))
    return FrameLabels({name: _as_tensors(rows, class_of) for name, rows in aligned.items()}, layout, sample_rate)


def _aligned(path: str, alignments: Alignments, manifest: Manifest) -> dict[str, Sequence[AlignedLabel]]:
    """Return the labels of the manifest's aligned utterances by their path.

    The manifest may have been made with a root further up than the one that was aligned: an id then has folders in
    front. Raises InputError where two utterances could be meant.
    """
    taken: dict[str, str] = {}
    for utterance, entry in zip(utterance_ids(manifest), manifest.entries, strict=True):
        parts = utterance.split("-")
        names = ("-".join(parts[first:]) for first in range(len(parts)))
        name = next((name for name in names if name in alignments), None)
        if name is not None and taken.setdefault(name, entry.path) != entry.path:
            raise InputError(
                f"task.annotations={path}: utterance {name!r} may be {taken[name]} or {entry.path} of "
                f"{manifest.source}; align a manifest with the same root folder"
            )
    return {entry_path: alignments[name] for name, entry_path in taken.items()}


def _as_tensors(rows: Sequence[AlignedLabel], class_of: Mapping[str, int]) -> AlignedUtterance:
    start_N = torch.tensor([row.start for row in rows], dtype=torch.float64)
    end_N = torch.tensor([row.end for row in rows], dtype=torch.float64)
    classes_N = torch.tensor([class_of.get(row.label, NONE) for row in rows])
    return AlignedUtterance(classes_N, start_N, end_N, (end_N[:-1] + start_N[1:]) / 2)
