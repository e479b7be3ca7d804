"""From one sample rate to another, once, into what FLAC files hold."""

from __future__ import annotations

import numpy as np
import torch
import torchaudio

# Zero crossings of the windowed sinc on each side: a transition band ten times narrower than the default of 6 has.
FILTER_WIDTH = 64


def resampled_pcm(wave_S: torch.Tensor, rate: int, sample_rate: int) -> np.ndarray:
    """Return a wave (S,) of ``rate`` Hz, full scale 1, at ``sample_rate`` Hz as 16 bit samples.

    The filter is torchaudio's Hann-windowed sinc with its default roll-off of 0.99 of the lower Nyquist frequency.
    """
    wave_S = torchaudio.functional.resample(wave_S, rate, sample_rate, lowpass_filter_width=FILTER_WIDTH)
    # The filter overshoots at full scale: clip, do not wrap around.
    return (wave_S * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16).numpy()
