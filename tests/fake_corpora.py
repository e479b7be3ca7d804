"""Small corpora in real formats, made on the spot: speech-like waves, manifests, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from ccc_w2v.data.manifest import write_manifest

RATE = 16000


def speech_like(samples: int, seed: int) -> np.ndarray:
    """Return a wave (S,) float32: a gliding harmonic voice in syllables of 0.2 s over a little noise."""
    draw = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    pitch = 110 + 60 * draw.random() + 30 * np.sin(2 * np.pi * (0.5 + draw.random()) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = draw.uniform(0.2, 1.0, size=(len(time) // 3200 + 1, 8)).repeat(3200, axis=0)[:samples]
    voice = sum(formants[:, k] * np.sin((k + 1) * phase) / (k + 1) for k in range(8))
    envelope = np.clip(np.sin(2 * np.pi * 2.5 * time), 0.05, None)
    return (0.1 * envelope * voice + 0.003 * draw.standard_normal(samples)).astype(np.float32)


def write_corpus(folder: Path, samples: list[int], name: str = "train", seed: int = 0) -> Path:
    """Write WAV files of these lengths below folder/audio and folder/<name>.tsv; returns the manifest's path."""
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    entries = []
    for index, length in enumerate(samples):
        file = f"{name}{index}.wav"
        soundfile.write(audio / file, speech_like(length, seed + index), RATE, subtype="PCM_16")
        entries.append((file, length))
    write_manifest(folder / f"{name}.tsv", audio, entries)
    return folder / f"{name}.tsv"


def write_labels(manifest: Path, words: list[str]) -> None:
    """Write .ltr, .wrd and dict.ltr.txt beside a manifest, one transcript for each of its lines."""
    letters = [" ".join("|".join(line.split())) + " |" for line in words]
    manifest.with_suffix(".wrd").write_text("".join(f"{line}\n" for line in words))
    manifest.with_suffix(".ltr").write_text("".join(f"{line}\n" for line in letters))
    symbols = sorted({letter for line in letters for letter in line.split()})
    (manifest.parent / "dict.ltr.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
