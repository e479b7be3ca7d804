"""From one sample rate to another: the one filter of the package, for preparation and for reading on the fly."""

from __future__ import annotations

import math

import numpy as np
import torch

from ccc_w2v.errors import InputError

# Zero crossings of the windowed sinc on each side. With torchaudio's default of 6 a tone of 3.5 kHz in a file of 8 kHz
# comes back at 4.5 kHz, 15 dB below itself; with 64 it is 87 dB below, and 15 s of speech take 35 ms on one core.
FILTER_WIDTH = 64
MOST_WEIGHTS = 1 << 26  # of the filter, 256 MB; from 44.1 to 16 kHz it has 127,000


def check_resampling(rate: int, sample_rate: int, name: str) -> None:
    """Raise InputError, headed by ``name``, for rates in Hz with so little in common that a filter takes gigabytes."""
    common = math.gcd(rate, sample_rate)
    old, new = rate // common, sample_rate // common
    # The filter has a phase for each new sample of a period, as wide as the sinc is at the lower of the two rates.
    if new * (old + 2 * FILTER_WIDTH * max(old / new, 1)) > MOST_WEIGHTS:
        raise InputError(
            f"{name}: sample rate {rate} Hz has too little in common with {sample_rate} Hz to be resampled; is the "
            "header right? Convert the recording with another program"
        )


def resample(wave_S: torch.Tensor, rate: int, sample_rate: int) -> torch.Tensor:
    """Return a wave (S,) of ``rate`` Hz at ``sample_rate`` Hz.

    The filter is torchaudio's Hann-windowed sinc with its default roll-off of 0.99 of the lower Nyquist frequency.
    Raises InputError as check_resampling does.
    """
    check_resampling(rate, sample_rate, "resampling")
    import torchaudio  # a second, for those who need it alone

    return torchaudio.functional.resample(wave_S, rate, sample_rate, lowpass_filter_width=FILTER_WIDTH)


def resampled_pcm(wave_S: torch.Tensor, rate: int, sample_rate: int) -> np.ndarray:
    """Return a wave (S,) of ``rate`` Hz, full scale 1, at ``sample_rate`` Hz as 16 bit samples."""
    # The filter overshoots at full scale: clip, do not wrap around.
    return (resample(wave_S, rate, sample_rate) * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16).numpy()
