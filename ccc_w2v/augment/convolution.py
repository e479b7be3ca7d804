"""Convolution of waves with responses of their own, aligned so that no frame moves.

Shapes: R waves, S samples, L taps of a response, K blocks of H samples, F frequencies.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(waves_RS: Tensor, responses: list[Tensor], delays: list[int]) -> Tensor:
    """Convolve each wave with its response (L,) and return S samples (R, S) from the response's delay on."""
    return torch.stack(
        [
            _convolve_one(wave_S, response_L, delay)
            for wave_S, response_L, delay in zip(waves_RS, responses, delays, strict=True)
        ]
    )


def _convolve_one(wave_S: Tensor, response_L: Tensor, delay: int) -> Tensor:
    # By overlap-add: for a 15 s wave and a response of 1 s four times as fast as one transform of the whole.
    samples, taps = len(wave_S), len(response_L)
    length = min(
        (2**power for power in range(10, 25) if 2**power > taps), key=lambda n: _cost(n, taps, samples + delay)
    )
    # A transform of N samples holds N - taps + 1 of the wave and the tail that they ring on for.
    hop = length - taps + 1
    blocks = -(-(samples + delay) // hop)
    blocks_KH = F.pad(wave_S, (0, blocks * hop - samples)).view(blocks, hop)
    spectrum_KF = torch.fft.rfft(blocks_KH, n=length) * torch.fft.rfft(response_L, n=length)
    convolved_KL = torch.fft.irfft(spectrum_KF, n=length)
    full_S = wave_S.new_zeros(blocks * hop + taps - 1)
    for block, convolved_L in enumerate(convolved_KL):
        full_S[block * hop : block * hop + length] += convolved_L
    return full_S[delay : delay + samples]


def _cost(length: int, taps: int, samples: int) -> float:
    """Return about how long overlap-add takes with transforms of this length, in operations."""
    blocks = math.ceil(samples / (length - taps + 1))
    return (2 * blocks + 1) * length * math.log2(length)
