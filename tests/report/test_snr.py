"""WADA-SNR against closed forms, the published curve, and speech-like samples in noise of known level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma

from ccc_w2v.report import snr
from ccc_w2v.report.snr import SHAPE, estimate_snr, snr_class


def test_ends_are_those_of_noise_and_speech_alone() -> None:
    ratios, curve = snr._curve()
    noise_alone = (np.log(2 / np.pi) - digamma(0.5) - np.log(2)) / 2
    speech_alone = np.log(SHAPE) - digamma(SHAPE)
    assert curve[0] == pytest.approx(noise_alone, abs=3e-4)
    assert 0.9 * speech_alone < curve[-1] < speech_alone
    assert list(ratios[[0, -1]]) == [snr.LOWEST, snr.HIGHEST]
    assert (np.diff(curve) >= 0).all()


@pytest.mark.parametrize(
    ("ratio", "published"), [(-5, 0.424527992), (-1, 0.451614855), (0, 0.46221153), (5, 0.54372088), (20, 0.95655449)]
)
def test_the_curve_is_the_published_one(ratio: int, published: float) -> None:
    # The table of the authors' implementation, through which others estimate.
    ratios, curve = snr._curve()
    assert np.interp(published, curve, ratios) == pytest.approx(ratio, abs=0.3)


@pytest.mark.parametrize("ratio", [-5, 0, 5, 10, 15, 20, 30])
def test_finds_the_level_of_noise(ratio: int) -> None:
    draw = np.random.default_rng(ratio + 10)
    speech_S = draw.gamma(SHAPE, size=160_000) * draw.choice([-1, 1], size=160_000)
    noise_S = draw.standard_normal(160_000) * np.sqrt((speech_S**2).mean() / 10 ** (ratio / 10))
    for scale in (1.0, 1e-3):
        assert estimate_snr((scale * (speech_S + noise_S)).astype(np.float32)) == pytest.approx(ratio, abs=0.7)


def test_estimates_stay_within_the_curve() -> None:
    draw = np.random.default_rng(0)
    assert estimate_snr(np.sign(draw.standard_normal(1000))) == snr.LOWEST
    assert estimate_snr(draw.standard_normal(1000) ** 9) == snr.HIGHEST
    with pytest.raises(ValueError, match="silent"):
        estimate_snr(np.zeros(10))


def test_classes_are_five_decibels_wide() -> None:
    assert [snr_class(ratio) for ratio in (-20, -0.1, 0, 4.9, 5, 39.9, 40, 60)] == [
        "0 dB or less",
        "0 dB or less",
        "0 to 5 dB",
        "0 to 5 dB",
        "5 to 10 dB",
        "35 to 40 dB",
        "over 40 dB",
        "over 40 dB",
    ]
