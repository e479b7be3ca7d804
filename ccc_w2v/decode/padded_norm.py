"""Padded batches for models with a group norm over time: the norm takes its statistics from each utterance alone.

The base models' feature encoder normalises each channel of its first layer over time, so that zeros behind an utterance
would move all its frames. With the norm put here, padded batches give what one utterance at a time gives, to rounding:
what lies behind an utterance reaches none of its frames in the other convolutions, and the Transformer has a mask. For
a GPU, where few large batches take a fraction of the time of many small ones. Letters: B utterances, C channels, T
outputs of the first layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from ccc_w2v.decode.ctc_model import CtcModel

# Of the batch that a thread computes: two threads share a network on a GPU.
_SAMPLES: ContextVar[tuple[int, ...] | None] = ContextVar("samples", default=None)


@contextmanager
def utterances_of(samples: Sequence[int]) -> Iterator[None]:
    """Say how many samples each utterance of the batch has that this thread computes."""
    before = _SAMPLES.set(tuple(samples))
    try:
        yield
    finally:
        _SAMPLES.reset(before)


class UtteranceNorm(torch.nn.Module):
    """A group norm of one channel a group, over each utterance of a padded batch without its padding."""

    def __init__(self, norm: Any, kernel: int, stride: int) -> None:
        super().__init__()
        self.norm, self.kernel, self.stride = norm, kernel, stride

    @property
    def weight(self) -> torch.Tensor:
        """The norm's own."""
        return self.norm.weight

    @property
    def bias(self) -> torch.Tensor:
        """The norm's own."""
        return self.norm.bias

    @property
    def eps(self) -> float:
        """The norm's own."""
        return self.norm.eps

    def forward(self, values_BCT: torch.Tensor) -> torch.Tensor:
        """Return the normalised values (B, C, T), zero behind each utterance."""
        samples = _SAMPLES.get()
        if samples is None or len(set(samples)) == 1:
            return self.norm(values_BCT)
        assert len(samples) == len(values_BCT), "the batch that utterances_of was told of"
        normalised_BCT = torch.zeros_like(values_BCT)
        for row_CT, wave_CT, count in zip(normalised_BCT, values_BCT, samples, strict=True):
            frames = (count - self.kernel) // self.stride + 1
            row_CT[:, :frames] = self.norm(wave_CT[None, :, :frames])[0]
        return normalised_BCT


def with_padded_batches(model: CtcModel) -> CtcModel:
    """Return the model such that it decodes in padded batches; a group norm in its network is replaced in place."""
    layers: Any = model.network.w2v_encoder.w2v_model.feature_extractor.conv_layers
    convolution = layers[0][0]
    if isinstance(layers[0][2], torch.nn.GroupNorm):
        layers[0][2] = UtteranceNorm(layers[0][2], convolution.kernel_size[0], convolution.stride[0])
    return dataclasses.replace(model, pads=True)
