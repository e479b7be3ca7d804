"""WADA-SNR: a recording's signal-to-noise ratio from the distribution of its samples alone.

Kim and Stern, "Robust Signal-to-Noise Ratio Estimation Based on Waveform Amplitude Distribution Analysis",
Interspeech 2008. Clean speech is taken for samples of a symmetric gamma distribution of shape 0.4, noise for Gaussian
ones. Then ln E|z| - E ln|z| of the samples z grows steadily with their ratio, which is read off that curve.

Its limits: noise of another distribution (music, other voices, clicks) counts as speech, long pauses of digital
silence and clipping move it, and under a second of audio it wanders by several decibels. It tells recordings of 0 dB
from those of 20 dB; it does not measure a microphone. Estimates end at -20 and 60 dB, where the curve is flat.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.special import erf, gammaincinv, ndtri

SHAPE = 0.4
LOWEST, HIGHEST = -20, 60
# From this many standard deviations on, noise moves the mean logarithm of a sample by less than 1e-3.
_FAR = 30.0
CLASS_WIDTH, HIGHEST_CLASS = 5, 40


def estimate_snr(wave_S: np.ndarray) -> float:
    """Return the estimated ratio of speech to noise of a wave in dB, between LOWEST and HIGHEST.

    Raises ValueError for a wave without a sample other than zero.
    """
    sizes = np.abs(wave_S[wave_S != 0].astype(np.float64))
    if not len(sizes):
        raise ValueError("a silent wave has no signal-to-noise ratio")
    statistic = np.log(sizes.mean()) - np.log(sizes).mean()
    ratios, curve = _curve()
    return float(np.interp(statistic, curve, ratios))


@functools.cache
def _curve() -> tuple[np.ndarray, np.ndarray]:
    """Return ratios in dB and the statistic at each: expectations over quantiles of the speech's distribution."""
    ratios = np.arange(LOWEST, HIGHEST + 1)
    # Noise of unit power; of a gamma distribution the second moment is SHAPE * (SHAPE + 1).
    speech_N = gammaincinv(SHAPE, _midpoints(20_000)) / np.sqrt(SHAPE * (SHAPE + 1))
    means_K = np.linspace(0, _FAR, 1201)
    log_sizes_K = np.log(np.abs(means_K[:, None] + ndtri(_midpoints(4000)))).mean(axis=1)
    curve = []
    for ratio in ratios:
        mean_N = 10 ** (ratio / 20) * speech_N
        size_N = np.sqrt(2 / np.pi) * np.exp(-(mean_N**2) / 2) + mean_N * erf(mean_N / np.sqrt(2))
        near_N = np.interp(mean_N, means_K, log_sizes_K)
        log_size_N = np.where(mean_N < _FAR, near_N, np.log(np.maximum(mean_N, _FAR)))
        curve.append(np.log(size_N.mean()) - log_size_N.mean())
    return ratios, np.maximum.accumulate(curve)


def _midpoints(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def snr_class(ratio: float) -> str:
    """Name the class of 5 dB that an estimated ratio belongs to, as "10 to 15 dB"; beyond 40 dB they are one."""
    low = int(ratio // CLASS_WIDTH) * CLASS_WIDTH
    if low < 0:
        return "0 dB or less"
    return f"{low} to {low + CLASS_WIDTH} dB" if low < HIGHEST_CLASS else f"over {HIGHEST_CLASS} dB"
