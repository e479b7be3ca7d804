"""A tiny wav2vec_ctc checkpoint, built through fairseq's classes and saved with the keys that its trainer saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils

from ccc_w2v.benchmark import random_ctc
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from tests.fake_corpora import write_corpus, write_labels
from tests.tiny_models import TINY

SAMPLES = [8000, 9600, 8000, 12345, 8000, 9600]
WORDS = ["THE CAT", "A HAT", "SAT", "THAT IS THE HAT", "HE", "IT IS"]


def write_test_set(folder: Path) -> Path:
    """Write six recordings of four lengths with transcripts and a dictionary; returns the manifest's path."""
    manifest = write_corpus(folder, SAMPLES, name="test")
    write_labels(manifest, WORDS)
    return manifest


def read_waves(manifest: Path) -> list[torch.Tensor]:
    """Read a manifest's recordings."""
    listed = read_manifest(manifest)
    return [read_audio(listed.audio_path(entry), 16000) for entry in listed.entries]


def raw_state(path: Path) -> dict[str, Any]:
    """Return a checkpoint file's content as it is."""
    load_checkpoint(path)  # allows fairseq's Dictionary
    return torch.load(path, weights_only=True)


def build_ctc(folder: Path, *, normalize: bool = False, **settings: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Build a tiny random_ctc.build_ctc; returns task, model, cfg."""
    return random_ctc.build_ctc(folder, {**TINY, **settings}, normalize=normalize)


def save(state: dict[str, Any], path: Path) -> Path:
    """Save a state as fairseq saves it."""
    checkpoint_utils.torch_persistent_save(state, str(path))
    return path
