"""Noise: ratios by closed forms, recordings read by slice, and every way in which a manifest can be wrong."""

from __future__ import annotations

import math
import multiprocessing

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.augment import recordings
from ccc_w2v.augment.base import Range
from ccc_w2v.augment.noise import Babble, BackgroundNoise, GaussianNoise
from ccc_w2v.data.manifest import write_manifest
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from tests.fake_corpora import speech_like

from .conftest import RATE, write_noise

SAMPLES = 16000


def speech(rows: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(speech_like(SAMPLES, seed)) for seed in range(rows)])


def one_draw(transform: BackgroundNoise) -> dict:
    return transform.draw(generator_for(0, "noise"), SAMPLES)


def test_gaussian_noise_has_the_drawn_share_of_the_standard_deviation():
    transform = GaussianNoise(RATE)
    waves = speech(20) + 0.05  # an offset, so that RMS and standard deviation differ
    drawn = [transform.draw(generator_for(0, "gauss", n), SAMPLES) for n in range(20)]
    added = transform.apply(waves, drawn) - waves
    measured = added.numpy().std(axis=1) / waves.numpy().std(axis=1)
    # The standard deviation of S normal numbers is off by 1 / sqrt(2 S); six times that.
    np.testing.assert_allclose(measured, [draw["std_ratio"] for draw in drawn], rtol=6 / math.sqrt(2 * SAMPLES))
    assert abs(added.mean()) < 1e-3
    assert 0.001 <= min(measured) < 0.15
    assert 0.5 < max(measured) <= 0.72


def test_background_noise_has_the_drawn_ratio_and_the_level_of_the_speech(noise_manifest):
    transform = BackgroundNoise(RATE, noise_manifest)
    waves = speech(30)
    drawn = [transform.draw(generator_for(0, "noise", n), SAMPLES) for n in range(30)]
    mixed = transform.apply(waves, drawn)
    assert {draw["index"] for draw in drawn} == {0, 1, 2}
    for wave, out, draw in zip(waves.double().numpy(), mixed.double().numpy(), drawn, strict=True):
        added = transform.audible_noise(draw, SAMPLES).double().numpy()
        # The mixture is some share of each, found by least squares without the transform's own gains.
        shares, *_ = np.linalg.lstsq(np.stack([wave, added], axis=1), out, rcond=None)
        ratio = 10 * np.log10(np.mean((shares[0] * wave) ** 2) / np.mean((shares[1] * added) ** 2))
        assert ratio == pytest.approx(draw["snr_db"], abs=0.1)
        assert np.sqrt(np.mean(out**2)) == pytest.approx(np.sqrt(np.mean(wave**2)), rel=1e-4)


def test_slices_come_from_the_file_and_short_recordings_are_repeated(noise_manifest):
    transform = BackgroundNoise(RATE, noise_manifest)
    long, _ = soundfile.read(noise_manifest.parent / "long.wav", dtype="float32")
    short, _ = soundfile.read(noise_manifest.parent / "short.wav", dtype="float32")
    from_long = transform.audible_noise({"index": 0, "start": 1234, "redraw_seed": 0}, SAMPLES)
    from_short = transform.audible_noise({"index": 1, "start": 1000, "redraw_seed": 0}, SAMPLES)
    np.testing.assert_array_equal(from_long, long[1234 : 1234 + SAMPLES])
    np.testing.assert_array_equal(from_short, np.tile(short, 7)[1000 : 1000 + SAMPLES])


def test_long_recordings_are_not_read_whole(noise_manifest, monkeypatch):
    asked = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, frames, **k: asked.append(frames) or read(self, frames, **k)
    )
    BackgroundNoise(RATE, noise_manifest).audible_noise({"index": 0, "start": 5, "redraw_seed": 0}, SAMPLES)
    assert asked == [SAMPLES]


def test_a_silent_slice_is_replaced_by_the_same_other_one_each_time(noise_manifest):
    transform = BackgroundNoise(RATE, noise_manifest)
    drawn = {"index": 2, "start": 0, "redraw_seed": 11}
    noise_S = transform.audible_noise(drawn, SAMPLES)
    assert noise_S.square().mean() > 1e-8
    assert torch.equal(noise_S, transform.audible_noise(drawn, SAMPLES))


def test_a_silent_recording_falls_through_to_the_next(tmp_path):
    audible = (0.1 * np.random.default_rng(0).standard_normal(SAMPLES)).astype(np.float32)
    manifest = write_noise(tmp_path, {"silent.wav": np.zeros(2 * SAMPLES), "audible.wav": audible})
    noise_S = BackgroundNoise(RATE, manifest).audible_noise({"index": 0, "start": 7, "redraw_seed": 3}, SAMPLES)
    np.testing.assert_array_equal(np.sort(noise_S), np.sort(audible))


def test_nothing_but_silence_is_an_error(tmp_path):
    transform = BackgroundNoise(RATE, write_noise(tmp_path, {"a.wav": np.zeros(99), "b.wav": np.zeros(2 * SAMPLES)}))
    with pytest.raises(InputError, match=r"noise.tsv:\d: .*digital silence"):
        transform.apply(speech(1), [one_draw(transform)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_an_error(tmp_path, bad):
    wave = np.full(500, 0.1)
    wave[200] = bad
    transform = BackgroundNoise(RATE, write_noise(tmp_path, {"bad.wav": wave}))
    with pytest.raises(InputError, match=r"noise.tsv:2: .*bad.wav: holds samples that are NaN or infinite"):
        transform.apply(speech(1), [one_draw(transform)])


def test_a_recording_of_another_rate_is_an_error_at_the_start(tmp_path):
    with pytest.raises(InputError, match=r"noise.tsv:2: .*sample rate 8000 Hz, expected 16000 Hz"):
        BackgroundNoise(RATE, write_noise(tmp_path, {"a.wav": np.ones(100)}, rate=8000))


def test_a_long_manifest_is_checked_as_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "CHECK_AT_START", 0)
    transform = BackgroundNoise(RATE, write_noise(tmp_path, {"a.wav": np.ones(100)}, rate=8000))
    with pytest.raises(InputError, match="sample rate 8000 Hz"):
        transform.apply(speech(1), [one_draw(transform)])


def test_a_length_that_the_manifest_does_not_declare_is_an_error(tmp_path):
    manifest = write_noise(tmp_path, {"a.wav": np.ones(100)})
    write_manifest(manifest, tmp_path, [("a.wav", 101)])
    with pytest.raises(InputError, match="100 samples, the manifest declares 101"):
        BackgroundNoise(RATE, manifest)


def test_a_damaged_recording_is_an_error(tmp_path):
    wave = 0.1 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(tmp_path / "a.flac", wave, RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    write_manifest(tmp_path / "noise.tsv", tmp_path, [("a.flac", 8000)])
    transform = BackgroundNoise(RATE, tmp_path / "noise.tsv")
    with pytest.raises(InputError, match=r"noise.tsv:2: .*a.flac"):
        transform.apply(speech(1), [one_draw(transform)])


def test_manifests_that_cannot_be_used_are_errors(tmp_path):
    with pytest.raises(InputError, match="no such noise manifest; check task.noise_manifest"):
        BackgroundNoise(RATE, tmp_path / "missing.tsv")
    (tmp_path / "empty.tsv").write_text("/audio\n")
    with pytest.raises(InputError, match="lists no audio"):
        BackgroundNoise(RATE, tmp_path / "empty.tsv")
    write_manifest(tmp_path / "gone.tsv", tmp_path, [("gone.wav", 10)])
    with pytest.raises(InputError, match=r"gone.tsv:2: .*no such file"):
        BackgroundNoise(RATE, tmp_path / "gone.tsv")


def test_extreme_ratios_stay_finite(noise_manifest):
    for decibels in (-60.0, 120.0):
        transform = BackgroundNoise(RATE, noise_manifest, Range(decibels, decibels))
        assert transform.apply(speech(1), [one_draw(transform)]).isfinite().all()


def test_a_forked_worker_reads_the_same_noise(noise_manifest):
    transform = BackgroundNoise(RATE, noise_manifest)
    drawn = one_draw(transform)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = pool.apply(_noise_as_list, (transform, drawn))
    assert theirs == _noise_as_list(transform, drawn)


def _noise_as_list(transform: BackgroundNoise, drawn: dict) -> list[float]:
    return transform.audible_noise(drawn, SAMPLES).tolist()


def test_voices_of_a_babble_are_equally_loud(tmp_path):
    # Sines of whole periods are orthogonal: each one's power in the sum can be read off.
    time = np.arange(SAMPLES) / RATE
    tones = {f"{hz}.wav": level * np.sin(2 * np.pi * hz * time) for hz, level in ((200, 0.5), (300, 0.01), (500, 0.1))}
    transform = Babble(RATE, write_noise(tmp_path, tones))
    drawn = transform.draw(generator_for(0, "babble"), SAMPLES)
    assert 3 <= len(drawn["voices"]) <= 7
    drawn["voices"] = [{"index": index, "start": 0, "redraw_seed": 0} for index in range(3)]
    spectrum = np.abs(np.fft.rfft(transform.material(drawn, SAMPLES).numpy())) / SAMPLES
    np.testing.assert_allclose(spectrum[[200, 300, 500]], 2**0.5 / 2, rtol=1e-3)
