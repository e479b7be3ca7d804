"""Changes of single samples: gain, clipping, polarity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, match_level, setting


@dataclass
class Gain(Transform):
    """Louder or softer as a whole; without effect on a model whose input is normalised (task.normalize)."""

    name = "gain"
    keeps_time = True

    gain_db: Range = setting("gain in dB", default=Range(-12.0, 6.0), minimum=-120.0, maximum=60.0)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"gain_db": self.gain_db.draw(generator)}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        gain_R1 = waves_RS.new_tensor([10 ** (drawn["gain_db"] / 20) for drawn in parameters]).unsqueeze(1)
        return waves_RS * gain_R1


@dataclass
class Clipping(Transform):
    """Hard clipping some dB below the wave's own peak, at the level of the unclipped wave."""

    name = "clipping"
    keeps_time = True

    depth_db: Range = setting("how far below the peak the limit lies, in dB", default=Range(1.0, 12.0), minimum=0.0)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"depth_db": self.depth_db.draw(generator)}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        share_R1 = waves_RS.new_tensor([10 ** (-drawn["depth_db"] / 20) for drawn in parameters]).unsqueeze(1)
        limit_R1 = share_R1 * waves_RS.abs().amax(dim=1, keepdim=True)
        # In float64, whose sum is the same on every device but for the last bit: a codec behind it codes alike then.
        return match_level(waves_RS.clamp(-limit_R1, limit_R1).double(), waves_RS.double()).to(waves_RS)


@dataclass
class Polarity(Transform):
    """The wave upside down, as a swapped pair of wires makes it."""

    name = "polarity"
    keeps_time = True

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"factor": -1}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        return -waves_RS
