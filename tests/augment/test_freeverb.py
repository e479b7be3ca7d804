"""Freeverb against sox itself, and against the filters that it is made of, run sample by sample."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from ccc_w2v.augment.freeverb import ALLPASSES, COMBS, SPREAD, Freeverb, comb_feedback, fast_length

from .conftest import RATE

DRAWS = [(50, 50, 100), (0, 0, 0), (100, 0, 100), (100, 100, 37), (83, 20, 66)]


def drawn(reverberance: float, damping: float, room_size: float) -> dict[str, float]:
    return {"reverberance": reverberance, "damping": damping, "room_size": room_size}


def fading_noise(seconds: float) -> torch.Tensor:
    samples = round(seconds * RATE)
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    return 0.05 * noise * torch.linspace(1, 0, samples)


@pytest.mark.skipif(not shutil.which("sox"), reason="needs the Debian package sox")
@pytest.mark.parametrize("settings", DRAWS)
def test_it_is_soxs(settings: tuple[float, ...], tmp_path: Path) -> None:
    wave_S = fading_noise(3)
    soundfile.write(tmp_path / "dry.wav", wave_S.numpy(), RATE, subtype="FLOAT")
    command = ["sox", tmp_path / "dry.wav", "-e", "float", "-b", "32", tmp_path / "wet.wav"]
    subprocess.run([*command, "reverb", *map(str, settings), "channels", "1"], check=True, capture_output=True)
    expected, _ = soundfile.read(tmp_path / "wet.wav", dtype="float32")
    actual = Freeverb(RATE).change(wave_S[None], [drawn(*settings)])[0].numpy()
    assert np.abs(expected - wave_S.numpy()).max() > 0.03
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_it_is_its_combs_and_allpasses() -> None:
    # No number of the transform: each filter's recursion, with the longest ringing, over what wraps around.
    wave = fading_noise(0.5).numpy().astype(np.float64)
    lowpass, scale, rate, wet = 0.2 + 0.3 * 0.1, 1.0, RATE / 44100, np.zeros_like(wave)
    for spread in (0, SPREAD):
        channel = np.zeros_like(wave)
        for number, length in enumerate(COMBS):
            delay = int(scale * rate * (length + spread * (-1) ** number) + 0.5)
            numerator, denominator = np.zeros(delay + 2), np.zeros(delay + 1)
            numerator[delay:] = [1, -lowpass]
            denominator[:2], denominator[delay] = [1, -lowpass], -0.98 * (1 - lowpass)
            channel += scipy.signal.lfilter(numerator, denominator, wave)
        for number, length in enumerate(ALLPASSES):
            delay = int(rate * (length + spread * (-1) ** number) + 0.5)
            numerator, denominator = np.zeros(delay + 1), np.zeros(delay + 1)
            numerator[0], numerator[delay] = -1, 1.5
            denominator[0], denominator[delay] = 1, -0.5
            channel = scipy.signal.lfilter(numerator, denominator, channel)
        wet += 0.015 * channel / 2
    actual = Freeverb(RATE).change(torch.from_numpy(wave)[None], [drawn(100, 10, 100)])[0]
    np.testing.assert_allclose(actual, wave + wet, atol=1e-7)


def test_the_direct_path_stays_where_it_is() -> None:
    click = torch.zeros(1, 8000)
    click[0, 100] = 1.0
    wet = Freeverb(RATE).change(click, [drawn(90, 0, 50)])[0]
    assert wet.argmax() == 100
    assert wet[100] == pytest.approx(1.0, abs=0.02)
    assert wet[:100].abs().max() < 1e-6
    assert wet[4000:].abs().max() > 1e-4


def test_feedback_and_lengths() -> None:
    assert [comb_feedback(reverberance) for reverberance in (0, 100)] == pytest.approx([0.3, 0.98])
    for samples in (1, 2, 3, 5, 1000, 80_000, 250_000, 320_000):
        length = fast_length(samples)
        assert samples <= length < 1.7 * samples + 8
        assert length % 2 == 0


def test_parameters_are_drawn_over_the_whole_range() -> None:
    draws = [Freeverb(RATE).draw(torch.Generator().manual_seed(seed), 1000) for seed in range(400)]
    for name in ("reverberance", "damping", "room_size"):
        values = [draw[name] for draw in draws]
        assert min(values) < 2
        assert max(values) > 98
        assert np.mean(values) == pytest.approx(50, abs=6)
