"""Gain, clipping, band limits, dropout, recorded reverb and pitch against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F

from ccc_w2v.augment import recordings
from ccc_w2v.augment.base import Range
from ccc_w2v.augment.dropout import TimeDropout
from ccc_w2v.augment.filtering import BandLimit, band_response
from ccc_w2v.augment.gain import Clipping, Gain, Polarity
from ccc_w2v.augment.pitch import PitchShift
from ccc_w2v.augment.recorded_reverb import RecordedReverb
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError

from .conftest import RATE, write_noise

TIME = torch.arange(RATE) / RATE
TONE = 0.5 * torch.sin(2 * math.pi * 440 * TIME)[None]


def test_gain_and_polarity_are_factors():
    torch.testing.assert_close(Gain(RATE).change(TONE, [{"gain_db": -20.0}]), 0.1 * TONE)
    assert torch.equal(Polarity(RATE).change(TONE, [{"factor": -1}]), -TONE)


def test_clipping_cuts_at_the_depth_and_keeps_the_level():
    clipped = Clipping(RATE).change(TONE, [{"depth_db": 6.0}])[0]
    flat = (clipped == clipped.max()).sum() / len(clipped)
    # A sine is above s of its peak for acos(s) / pi of the time.
    assert flat == pytest.approx(math.acos(10 ** (-6 / 20)) / math.pi, abs=0.01)
    assert clipped.square().mean() == pytest.approx(0.125, rel=1e-3)


def test_clipping_does_not_depend_on_the_order_in_which_a_device_sums():
    """Its level in float32 did, and G.711 behind it coded a sample one step apart on a GPU."""
    waves = torch.randn(4, 50_000, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(50_000, generator=torch.Generator().manual_seed(2))
    drawn = [{"depth_db": depth} for depth in (1.0, 3.0, 6.0, 12.0)]
    clipped = Clipping(RATE).change(waves, drawn)
    assert torch.equal(Clipping(RATE).change(waves[:, order], drawn), clipped[:, order])


@pytest.mark.parametrize(("low", "high"), [(300.0, 3400.0), (0.0, 4000.0), (1000.0, 8000.0)])
def test_the_filter_passes_its_band_alone(low, high):
    response = band_response(low, high, RATE)
    hertz, gain = scipy.signal.freqz(response.numpy(), worN=4096, fs=RATE)
    decibels = 20 * np.log10(np.abs(gain) + 1e-12)
    inside = (hertz > low + 90) & (hertz < high - 90) if high < 8000 else hertz > low + 90
    outside = (hertz < low - 90) | (hertz > high + 90)
    assert np.abs(decibels[inside if low else hertz < high - 90]).max() < 0.02
    assert not outside.any() or decibels[outside].max() < -55
    torch.testing.assert_close(response, response.flip(0))


def test_band_limit_removes_a_tone_outside_and_keeps_one_inside():
    both = TONE + 0.5 * torch.sin(2 * math.pi * 6000 * TIME)
    left = BandLimit(RATE).change(both, [{"low_hz": 100.0, "high_hz": 3000.0}])
    # All of the level is in the tone that is left.
    torch.testing.assert_close(left[:, 800:-800], TONE[:, 800:-800] * 2**0.5, atol=0.02, rtol=0)


def test_dropout_zeroes_the_drawn_chunks_and_nothing_else():
    transform = TimeDropout(RATE, chunks=Range(3, 3), chunk_s=Range(0.01, 0.02))
    drawn = transform.draw(generator_for(0, "drop"), RATE)
    assert len(drawn["chunks"]) == 3
    assert all(160 <= length <= 320 for _, length in drawn["chunks"])
    wave = TONE + 1
    expected = wave[0].numpy().copy()
    for start, length in drawn["chunks"]:
        expected[start : start + length] = 0
    np.testing.assert_array_equal(transform.change(wave, [drawn])[0], expected)


def test_recorded_reverb_equals_scipy_from_the_direct_path_on(rir_manifest):
    transform = RecordedReverb(RATE, rir_manifest)
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    for index, travel in ((0, 500), (1, 0), (2, 0)):
        wet = transform.change(wave, [{"index": index}])[0].double().numpy()
        response = transform.responses.read(index).double().numpy()
        expected = scipy.signal.fftconvolve(wave[0].double().numpy(), response)[travel : travel + 8000]
        expected *= np.sqrt(np.mean(wave[0].numpy() ** 2) / np.mean(expected**2))
        np.testing.assert_allclose(wet, expected, atol=1e-4)


def test_a_response_of_zeros_is_an_error_at_the_start_or_when_it_is_read(tmp_path, monkeypatch):
    manifest = write_noise(tmp_path, {"good.wav": np.r_[1.0, np.zeros(50)], "zeros.wav": np.zeros(100)})
    with pytest.raises(InputError, match=r"noise.tsv:3: .*zeros.wav: an impulse response of zeros"):
        RecordedReverb(RATE, manifest)
    monkeypatch.setattr(recordings, "CHECK_AT_START", 0)
    transform = RecordedReverb(RATE, manifest)
    with pytest.raises(InputError, match="an impulse response of zeros"):
        transform.change(TONE, [{"index": 1}])


@pytest.mark.parametrize("semitones", [-4.0, -1.0, 2.0, 4.0])
def test_a_tone_is_shifted_by_the_ratio(semitones):
    transform = PitchShift(RATE, Range(semitones, semitones))
    shifted = transform.change(TONE, [transform.draw(generator_for(0, "pitch"), RATE)])[0]
    spectrum = torch.fft.rfft(shifted * torch.hann_window(RATE)).abs().square()
    peak = spectrum.argmax()
    assert peak == pytest.approx(440 * 2 ** (semitones / 12), abs=1)
    assert spectrum[peak - 5 : peak + 6].sum() / spectrum.sum() > 0.9999
    assert shifted.square().mean() == pytest.approx(0.125, rel=1e-3)


def speech_like(generator: torch.Generator) -> torch.Tensor:
    """Return gliding harmonics and noise in syllables of random loudness, (2 * RATE,), silent for 0.2 s at both ends.

    With sound at the ends they would line up with those of the other wave, whatever happened in between.
    """
    time = torch.arange(2 * RATE) / RATE

    def loudness() -> torch.Tensor:
        syllables = torch.rand(20, generator=generator).repeat_interleave(RATE // 10)
        syllables[: RATE // 5] = syllables[-RATE // 5 :] = 0
        return F.avg_pool1d(syllables[None], RATE // 10 + 1, 1, RATE // 20)[0]

    glide, start, *phases = torch.rand(22, generator=generator)
    hertz = (100 + 100 * start) * (1 + 0.1 * torch.sin(2 * math.pi * (2 * time + glide)))
    turns = torch.cumsum(hertz / RATE, 0)
    voice = sum(torch.sin(2 * math.pi * (turns * k + phase)) / k for k, phase in enumerate(phases, 1))
    return voice * loudness() + 0.3 * torch.randn(2 * RATE, generator=generator) * loudness()


def lag(after_S: torch.Tensor, before_S: torch.Tensor) -> int:
    """Return by how many samples one wave's RMS under a window of 50 ms is behind the other's, by cross-correlation."""
    window = scipy.signal.get_window("hann", RATE // 20 + 1, fftbins=False)
    power = [scipy.signal.fftconvolve(wave_S.double().numpy() ** 2, window, "same") for wave_S in (after_S, before_S)]
    correlation = scipy.signal.correlate(*[np.sqrt(level.clip(0)) for level in power])
    return int(correlation.argmax()) - (len(before_S) - 1)


def test_the_lag_of_a_delayed_wave_is_found():
    wave = speech_like(torch.Generator().manual_seed(0))
    assert lag(F.pad(wave, (7, 0))[:-7], wave) == 7
    assert lag(wave[7:], wave[:-7]) == -7


def test_pitch_shift_keeps_time_in_every_draw():
    # Another pitch does not correlate with the old one, so: the envelopes.
    transform = PitchShift(RATE)
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        wave = speech_like(generator)
        shifted = transform.apply(wave[None], [transform.draw(generator, len(wave))])[0]
        delay = lag(shifted, wave)
        assert abs(delay) <= 2, (seed, delay)


def test_pitch_shift_keeps_time_within_a_wave_too():
    # A late first half would hide an early second one.
    transform, local = PitchShift(RATE), []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        wave = speech_like(generator)
        shifted = transform.apply(wave[None], [transform.draw(generator, len(wave))])[0]
        window = torch.hann_window(RATE // 2)
        for start in range(RATE // 5, 2 * RATE - RATE // 5 - RATE // 2, RATE // 5):
            part = slice(start, start + RATE // 2)
            local.append(lag(shifted[part] * window, wave[part] * window))
    assert np.median(np.abs(local)) <= 0.001 * RATE
    assert np.abs(np.mean(local)) <= 8


def test_no_semitones_are_no_change():
    torch.testing.assert_close(PitchShift(RATE).change(TONE, [{"semitones": 0.0}]), TONE, atol=1e-5, rtol=0)
