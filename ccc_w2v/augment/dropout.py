"""Short chunks of silence: dropped samples, lost packets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, draw_integer, setting


@dataclass
class TimeDropout(Transform):
    """A few short chunks of the wave are set to zero."""

    name = "time_dropout"
    keeps_time = True

    chunks: Range = setting(
        "how many chunks, rounded to a whole number", default=Range(1.0, 10.0), minimum=1.0, maximum=1000.0
    )
    chunk_s: Range = setting("length of a chunk in seconds", default=Range(0.005, 0.05), minimum=0.0, maximum=1.0)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        count = round(self.chunks.draw(generator))
        lengths = [max(1, round(self.chunk_s.draw(generator) * self.sample_rate)) for _ in range(count)]
        return {"chunks": [[draw_integer(generator, samples), length] for length in lengths]}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        return mute(waves_RS, [drawn["chunks"] for drawn in parameters])


def mute(waves_RS: Tensor, chunks_R: list[list[list[int]]]) -> Tensor:
    """Set chunks of each wave to zero in a copy; a chunk is [first sample, number of samples]."""
    muted_RS = waves_RS.clone()
    for wave_S, chunks in zip(muted_RS, chunks_R, strict=True):
        for start, length in chunks:
            wave_S[start : start + length] = 0
    return muted_RS
