"""Pitch shift that keeps time: each spectral peak is moved with its surroundings inside its own frame.

This is the shifting phase vocoder of Laroche and Dolson ("New phase-vocoder techniques for pitch-shifting, harmonizing
and other exotic effects", WASPAA 1999). Shapes: R waves, S samples, F bins, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, match_level, setting
from ccc_w2v.augment.convolution import convolve

WINDOW_S = 0.032  # a longer one smears a sound over more time
FINER = 4  # bins per bin of the bare window: peaks move by whole bins
PEAK = 2 * FINER  # a peak tops all bins that are as near as this: half the width of the window's main lobe
SMOOTHING_S = 0.05


@dataclass
class PitchShift(Transform):
    """All frequencies times one ratio; length, time and level stay.

    Stretching and resampling, the usual way, rebuilds a sound from frames at other times and moves the energy of a
    voice by some ms. Here a frame's parts are modulated where they stand. What is left over a crop, by the correlation
    of the smoothed magnitudes, is taken back. A spectral envelope moves along with its pitch, as from a larger or a
    smaller speaker.
    """

    name = "pitch_shift"
    keeps_time = True

    semitones: Range = setting("shift in semitones", default=Range(-4.0, 4.0), minimum=-12.0, maximum=12.0)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"semitones": self.semitones.draw(generator)}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        # In float64: the phases add up over the frames, and that of a faint bin would carry a device's rounding along.
        waves = waves_RS.double()
        ratios_R = torch.tensor([2 ** (drawn["semitones"] / 12) for drawn in parameters], dtype=waves.dtype)
        # One after the other: on a CPU the large tensors of a whole batch take more than twice as long.
        singles = zip(waves.split(1), ratios_R.to(waves.device).split(1), strict=True)
        shifted_RS = torch.cat([self._shift(wave_1S, ratio_1) for wave_1S, ratio_1 in singles])
        return match_level(self._aligned(shifted_RS, waves), waves).to(waves_RS)

    def _shift(self, waves_RS: Tensor, ratios_R: Tensor) -> Tensor:
        samples = waves_RS.shape[1]
        width = 2 ** round(math.log2(WINDOW_S * self.sample_rate))
        hop, transform = width // 4, width * FINER
        window_W = torch.hann_window(width, dtype=waves_RS.dtype, device=waves_RS.device)
        # A short wave has too few samples to be reflected: zeros before and behind instead.
        spectrum_RTF = torch.stft(
            waves_RS, transform, hop, width, window_W, pad_mode="constant", return_complex=True
        ).transpose(1, 2)
        peak_RTF = nearest_peak(spectrum_RTF.abs())
        exact_RTF = peak_RTF * (ratios_R - 1)[:, None, None]
        # A part that moves by d bins turns by 2 pi d hop / transform more from frame to frame.
        phase_RTF = accumulate(exact_RTF * (2 * math.pi * hop / transform), peak_RTF)
        bins = spectrum_RTF.shape[2]
        target_RTF = torch.arange(bins, device=waves_RS.device) + exact_RTF.round().long()
        inside_RTF = (target_RTF >= 0) & (target_RTF < bins)
        # Magnitude 0 where a part would leave the band: it is dropped, not folded back.
        turned_RTF = spectrum_RTF * torch.polar(inside_RTF.to(phase_RTF), phase_RTF)
        moved_RTF = torch.zeros_like(turned_RTF).scatter_add_(2, target_RTF.clamp(0, bins - 1), turned_RTF)
        return torch.istft(moved_RTF.transpose(1, 2), transform, hop, width, window_W, length=samples)

    def _aligned(self, shifted_RS: Tensor, waves_RS: Tensor) -> Tensor:
        """Take back the lag of each wave behind its original, at most half a window of the vocoder."""
        samples = waves_RS.shape[1]
        both = self._magnitudes(shifted_RS), self._magnitudes(waves_RS)
        spectra = [torch.fft.rfft(magnitude_RN, n=2 * samples) for magnitude_RN in both]
        # 2 S samples: half of them zeros, so that the circular correlation does not wrap.
        correlation_RN = torch.fft.irfft(spectra[0] * spectra[1].conj(), n=2 * samples)
        reach = min(round(WINDOW_S / 2 * self.sample_rate), samples - 1)
        # Lags -reach to reach; negative ones are at the end of a circular correlation.
        near_RL = torch.cat((correlation_RN[:, -reach:], correlation_RN[:, : reach + 1]), dim=1)
        lag_R = near_RL.argmax(dim=1) - reach
        source_RS = torch.arange(samples, device=waves_RS.device) + lag_R[:, None]
        inside_RS = (source_RS >= 0) & (source_RS < samples)
        return shifted_RS.gather(1, source_RS.clamp(0, samples - 1)) * inside_RS

    def _magnitudes(self, waves_RS: Tensor) -> Tensor:
        width = 2 * round(SMOOTHING_S / 2 * self.sample_rate) + 1
        window_W = torch.hann_window(width, periodic=False, dtype=waves_RS.dtype, device=waves_RS.device)
        smooth_RS = convolve(waves_RS.square(), [window_W] * len(waves_RS), [width // 2] * len(waves_RS))
        return smooth_RS.clamp(min=0).sqrt()


def nearest_peak(magnitude_RTF: Tensor) -> Tensor:
    """Return for each bin of each frame the bin of its nearest spectral peak, (R, T, F); the lower one of two."""
    bins = magnitude_RTF.shape[2]
    top_RTF = F.max_pool1d(magnitude_RTF, 2 * PEAK + 1, 1, PEAK)
    bin_F = torch.arange(bins, device=magnitude_RTF.device)
    peak_RTF = magnitude_RTF == top_RTF  # every bin of a silent frame: none of them has anything to move
    far = 2 * bins
    # The last peak at or below each bin, and the first at or above it.
    below_RTF = torch.where(peak_RTF, bin_F, -far).cummax(dim=2).values
    above_RTF = torch.where(peak_RTF, bin_F, far).flip(2).cummin(dim=2).values.flip(2)
    return torch.where(bin_F - below_RTF <= above_RTF - bin_F, below_RTF, above_RTF)


def accumulate(advance_RTF: Tensor, peak_RTF: Tensor) -> Tensor:
    """Return the phase of each bin in radians (R, T, F): its peak's at the frame before, and the advance since then.

    So all bins around a peak turn together, which keeps the sound where it is in its frame.
    """
    phase_RF = torch.zeros_like(advance_RTF[:, 0])
    phases = []
    for advance_RF, peak_RF in zip(advance_RTF.unbind(1), peak_RTF.unbind(1), strict=True):
        phase_RF = phase_RF.gather(1, peak_RF) + advance_RF
        phases.append(phase_RF)
    return torch.stack(phases, dim=1)
