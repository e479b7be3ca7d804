"""Freeverb as sox computes it, the reverb of the original ccc-wav2vec 2.0 (through WavAugment): for exact replication.

Eight lowpass-feedback combs in parallel, then four allpasses in series (J. O. Smith, "Physical Audio Signal
Processing", chapter Freeverb), applied by their transfer function at the discrete Fourier transform's frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, setting

# Delays in samples at 44.1 kHz, and by how much the second channel's differ, up and down in turn.
COMBS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
ALLPASSES = (225, 341, 441, 556)
SPREAD = 12
DELAYS_RATE = 44_100
WET_GAIN = 0.015
ALLPASS_FEEDBACK = 0.5
# The transform is circular: what rings beyond its end comes back at its beginning, this much weaker.
WRAPPED = 1e-6


@dataclass
class Freeverb(Transform):
    """sox's ``reverb`` at stereo depth 100 mixed to one channel, added to the dry speech; the level rises, as there."""

    name = "freeverb"
    keeps_time = True

    reverberance: Range = setting(
        "how long it rings, in % (sox's reverberance)", default=Range(0.0, 100.0), minimum=0.0, maximum=100.0
    )
    damping: Range = setting(
        "how much sooner high frequencies die away, in % (sox's HF-damping)",
        default=Range(0.0, 100.0),
        minimum=0.0,
        maximum=100.0,
    )
    room_size: Range = setting(
        "size of the room in % (sox's room-scale)", default=Range(0.0, 100.0), minimum=0.0, maximum=100.0
    )

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {name: getattr(self, name).draw(generator) for name in ("reverberance", "damping", "room_size")}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        samples = waves_RS.shape[1]
        length = fast_length(samples)
        decay = WRAPPED ** (1 / length)
        # On a circle of radius 1 / decay the filters die away sooner; the same weights are taken off afterwards.
        weights_S = decay ** torch.arange(samples, dtype=torch.float64, device=waves_RS.device)
        delay = Delay(length, decay, waves_RS.device)
        wet_RS = torch.stack(
            [
                torch.fft.irfft(torch.fft.rfft(wave_S * weights_S, n=length) * self._wet(delay, drawn), n=length)
                for wave_S, drawn in zip(waves_RS.double(), parameters, strict=True)
            ]
        )
        return (waves_RS + wet_RS[:, :samples] / weights_S).to(waves_RS.dtype)

    def _wet(self, delay: Delay, drawn: Parameters) -> Tensor:
        """Return the transfer function (F,) without the dry signal, the mean of both channels."""
        feedback = comb_feedback(drawn["reverberance"])
        lowpass, scale = 0.2 + 0.3 * drawn["damping"] / 100, 0.1 + 0.9 * drawn["room_size"] / 100
        rate = self.sample_rate / DELAYS_RATE
        # A comb feeds back through a one-pole low-pass: high frequencies die away sooner.
        fed_back_F = feedback * (1 - lowpass) / (1 - lowpass * delay(1))
        total_F = torch.zeros_like(fed_back_F)
        for spread in (0, SPREAD):
            channel_F = torch.zeros_like(fed_back_F)
            for number, samples in enumerate(COMBS):
                # z^-n / (1 - feedback z^-n), all combs in parallel,
                comb_F = delay(int(scale * rate * (samples + spread * (-1) ** number) + 0.5))
                channel_F += comb_F / (1 - fed_back_F * comb_F)
            for number, samples in enumerate(ALLPASSES):
                # then the all-passes in a row. The second channel's delays are longer and shorter in turn.
                pass_F = delay(int(rate * (samples + spread * (-1) ** number) + 0.5))
                channel_F *= ((1 + ALLPASS_FEEDBACK) * pass_F - 1) / (1 - ALLPASS_FEEDBACK * pass_F)
            total_F += channel_F
        return WET_GAIN / 2 * total_F


class Delay:
    """Called with a number of samples, a delay's transfer function (F,) on the circle of radius 1 / ``decay``."""

    def __init__(self, length: int, decay: float, device: torch.device):
        self.length, self.decay = length, decay
        angles_L = -2 * math.pi / length * torch.arange(length, dtype=torch.float64, device=device)
        self.turns_L = torch.polar(torch.ones_like(angles_L), angles_L)
        self.frequencies_F = torch.arange(length // 2 + 1, device=device)

    def __call__(self, samples: int) -> Tensor:
        # Looked up: to raise a complex number to a power takes ten times as long.
        return self.decay**samples * self.turns_L[self.frequencies_F * samples % self.length]


def comb_feedback(reverberance: float) -> float:
    """Return the combs' feedback: 0.3 at a reverberance of 0 %, 0.98 at 100 %, exponential between (sox 14.4)."""
    return 1 - 0.7 * (0.02 / 0.7) ** (reverberance / 100)


def fast_length(samples: int) -> int:
    """Return the length of a transform that holds so many samples: 1, 3 or 5 times a power of two."""
    return min(factor * 2 ** max(1, math.ceil(math.log2(samples / factor))) for factor in (1, 3, 5))
