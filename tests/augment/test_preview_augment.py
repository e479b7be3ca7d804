"""ccc-w2v preview: what it writes replays, and a mistake leaves nothing behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.augment.pipeline import load_pipeline
from tests.fake_corpora import speech_like
from tests.run_tool import run_tool

from .conftest import RATE


@pytest.fixture
def speech(tmp_path):
    soundfile.write(tmp_path / "speech.wav", speech_like(12000, 0), RATE, subtype="FLOAT")
    return tmp_path / "speech.wav"


@pytest.fixture
def noisy(tmp_path, noise_manifest):
    path = tmp_path / "noisy.yaml"
    path.write_text(f"transforms: [{{name: background_noise, p: 0.7, manifest: {noise_manifest}}}]")
    return path


def test_parameters_replay_the_waves(tmp_path, speech, noisy):
    out = tmp_path / "out"
    assert run_tool("preview_augment", pipeline=noisy, audio=speech, out=out, count=3) == 0
    shown = json.loads((out / "parameters.json").read_text())
    original, _ = soundfile.read(out / "original.wav", dtype="float32")
    np.testing.assert_array_equal(original, speech_like(12000, 0))
    assert list(shown) == ["augmented_1", "augmented_2", "augmented_3"]
    for name, steps in shown.items():
        written, _ = soundfile.read(out / f"{name}.wav", dtype="float32")
        drawn = [parameters for _, parameters in steps]
        replayed = load_pipeline(noisy, RATE).apply(torch.from_numpy(original)[None], [drawn])[0]
        np.testing.assert_allclose(written, replayed, atol=1e-6)
    assert (out / "spectrograms.png").read_bytes().startswith(b"\x89PNG")


def test_another_seed_draws_something_else(tmp_path, speech, noisy):
    for seed in (0, 1):
        run_tool("preview_augment", pipeline=noisy, audio=speech, out=tmp_path / f"out{seed}", seed=seed, count=3)
    first, second = ((tmp_path / f"out{seed}" / "parameters.json").read_text() for seed in (0, 1))
    assert first != second


def test_mistakes_end_with_exit_code_2_and_write_nothing(tmp_path, speech, capsys):
    before = sorted(tmp_path.iterdir())
    for options in ({"pipeline": "papper"}, {"pipeline": "paper"}, {"pipeline": "none", "count": 0}):
        assert run_tool("preview_augment", audio=speech, out=tmp_path / "out", **options) == 2
    assert run_tool("preview_augment", pipeline="none", audio=tmp_path / "gone.wav", out=tmp_path / "out") == 2
    assert sorted(tmp_path.iterdir()) == before
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, speech, capsys):
    assert run_tool("preview_augment", pipeline="none", audio=speech, out=tmp_path) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["speech.wav"]
