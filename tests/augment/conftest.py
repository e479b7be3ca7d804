"""Noise recordings and a few simulated rooms, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.augment.base import Transform
from ccc_w2v.augment.pipeline import TRANSFORMS
from ccc_w2v.augment.reverb import Reverb
from ccc_w2v.data.manifest import write_manifest

RATE = 16000
NOISES = ("background_noise", "music", "babble")
# Where the defaults leave something out.
SETTINGS = {"telephone": {"line_noise_p": 1.0, "packet_loss_p": 1.0}}


def write_noise(folder: Path, recordings: dict[str, np.ndarray], rate: int = RATE, subtype: str = "FLOAT") -> Path:
    """Write recordings (S,) as WAV files and their manifest; returns the manifest's path."""
    for name, wave in recordings.items():
        soundfile.write(folder / name, wave, rate, subtype=subtype)
    write_manifest(folder / "noise.tsv", folder, [(name, len(wave)) for name, wave in recordings.items()])
    return folder / "noise.tsv"


@pytest.fixture(scope="session")
def noise_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three noises: longer than the test waves, shorter, and longer with a silent first half."""
    draw = np.random.default_rng(5)
    half_silent = 0.2 * draw.standard_normal(60000)
    half_silent[:30000] = 0
    recordings = {
        "long.wav": 0.1 * draw.standard_normal(40000),
        "short.wav": 0.05 * draw.standard_normal(3000),
        "half_silent.wav": half_silent,
    }
    return write_noise(tmp_path_factory.mktemp("noise"), recordings)


@pytest.fixture(scope="session")
def reverb() -> Reverb:
    """A pool of five rooms, simulated once for all tests."""
    transform = Reverb(RATE, rooms=5)
    transform.prepare()
    return transform


@pytest.fixture(scope="session")
def rir_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three impulse responses: one with travel time before it, one that begins at once, one whose sign is minus."""
    draw = np.random.default_rng(6)
    tail = draw.standard_normal(4000) * np.exp(-np.arange(4000) / 800) * 0.1
    responses = {
        "late.wav": np.r_[np.zeros(500), 0.7, tail],
        "early.wav": np.r_[0.9, tail],
        "minus.wav": -np.r_[0.5, tail],
    }
    return write_noise(tmp_path_factory.mktemp("rirs"), responses)


@pytest.fixture(params=TRANSFORMS)
def transform(request: pytest.FixtureRequest, noise_manifest: Path, rir_manifest: Path, reverb: Reverb) -> Transform:
    """Every transform that there is, one after the other."""
    if request.param == "reverb":
        return reverb
    kind = TRANSFORMS[request.param]
    required = {"recorded_reverb": (rir_manifest,), **dict.fromkeys(NOISES, (noise_manifest,))}
    return kind(RATE, *required.get(request.param, ()), **SETTINGS.get(request.param, {}))
