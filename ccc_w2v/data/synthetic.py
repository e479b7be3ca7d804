"""A corpus to measure on where none is given: voices and noises that compress as recordings do, made once per call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from ccc_w2v.data.manifest import read_manifest, write_manifest

RATE = 16_000


@dataclass(frozen=True)
class Corpus:
    """Manifests of speech, noise and impulse responses."""

    speech: Path
    noise: Path
    rirs: Path


@contextmanager
def corpus(seconds: float, speech: str | None, noise: str | None) -> Iterator[Corpus]:
    """Give manifests of speech of at least ``seconds`` and of noise, those named or ones made for the while.

    Made are FLAC of speech, and WAV of noise and impulse responses (0.5 s). Raises InputError for a manifest that
    cannot be read.
    """
    for path in (speech, noise):
        if path:
            read_manifest(path)
    draw = np.random.default_rng(0)
    decay = np.exp(-np.arange(RATE // 2) / (0.08 * RATE))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def write(kind: str, count: int, wave: Callable[[int], np.ndarray], suffix: str) -> Path:
            entries = []
            for number in tqdm(range(count), desc=f"writing {kind}", unit="file", leave=False):
                content = np.clip(wave(number), -1, 1)
                soundfile.write(folder / f"{kind}{number}{suffix}", content, RATE, subtype="PCM_16")
                entries.append((f"{kind}{number}{suffix}", len(content)))
            write_manifest(folder / f"{kind}.tsv", folder, entries)
            return folder / f"{kind}.tsv"

        yield Corpus(
            Path(speech or write("speech", 24, lambda n: voice(draw, round((seconds + n % 4) * RATE)), ".flac")),
            Path(noise or write("noise", 8, lambda _: 0.05 * draw.standard_normal(round(4 * seconds * RATE)), ".wav")),
            write("rir", 8, lambda _: np.r_[1.0, 0.3 * decay * draw.standard_normal(len(decay))], ".wav"),
        )


def voice(draw: np.random.Generator, samples: int) -> np.ndarray:
    """Return harmonics of a gliding pitch in syllables over a noise floor: FLAC takes 59 % of its bytes for it."""
    time = np.arange(samples) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * (0.5 + draw.random()) * time)) / RATE
    voice = sum(np.sin((k + 1) * phase) / (k + 1) for k in range(8))
    return 0.1 * np.clip(np.sin(2 * np.pi * 2.5 * time), 0.05, None) * voice + 0.003 * draw.standard_normal(samples)
