"""Pitch shift that keeps time: stretched by a phase vocoder, then resampled to the old length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import phase_vocoder, resample

from ccc_w2v.augment.base import Parameters, Range, Transform, match_level, setting

WINDOW_S = 0.032  # a longer one rings: it shifts the energy of a voice by some ms


@dataclass
class PitchShift(Transform):
    """All frequencies times one ratio, a whole number of hundredths; length, time and level stay.

    The ratio is rounded because resampling by a ratio of large numbers takes a filter for each of them: 0.1 s instead
    of 9 s. A spectral envelope moves along with its pitch, as from a larger or a smaller speaker.
    """

    name = "pitch_shift"
    keeps_time = True

    semitones: Range = setting(
        "shift in semitones, rounded to 1/100 of a frequency", default=Range(-4.0, 4.0), minimum=-12.0, maximum=12.0
    )

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"percent": round(100 * 2 ** (self.semitones.draw(generator) / 12))}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        # In float64: the vocoder adds up phases, and the phase of a faint bin would carry a device's rounding along.
        shifted_RS = torch.stack(
            [self._shift(wave_S, one["percent"]) for wave_S, one in zip(waves_RS.double(), parameters, strict=True)]
        )
        return match_level(shifted_RS, waves_RS.double()).to(waves_RS)

    def _shift(self, wave_S: Tensor, percent: int) -> Tensor:
        samples = len(wave_S)
        width = 2 ** round(math.log2(WINDOW_S * self.sample_rate))
        hop = width // 4
        window_W = torch.hann_window(width, dtype=wave_S.dtype, device=wave_S.device)
        # Room for the window behind the end: a short wave would have no frame to be read from there.
        padded_S = F.pad(wave_S, (0, width))
        spectrum_FT = torch.stft(padded_S, width, hop, window=window_W, return_complex=True)
        advance_F1 = torch.linspace(0, math.pi * hop, len(spectrum_FT), dtype=wave_S.dtype, device=wave_S.device)[
            :, None
        ]
        stretched_FT = phase_vocoder(spectrum_FT, 100 / percent, advance_F1)
        length = -(-samples * percent // 100)
        stretched_N = torch.istft(stretched_FT, width, hop, window=window_W, length=length)
        return resample(stretched_N, percent, 100)[:samples]
