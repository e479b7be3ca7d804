"""What ccc-w2v decode and ccc-w2v tune do with the options that they share: load, check, convert to samples."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ccc_w2v.capacity import refuse_missing_gpu
from ccc_w2v.data.manifest import Manifest, first_recordings, read_manifest
from ccc_w2v.decode.beam import BeamSettings, settings_from
from ccc_w2v.decode.cpu.network import fold
from ccc_w2v.decode.ctc_model import CtcModel, checkpoint_files, load_ctc
from ccc_w2v.decode.long_windows import Windows, windows_of
from ccc_w2v.decode.padded_norm import with_padded_batches
from ccc_w2v.errors import InputError


@dataclass(frozen=True)
class Prepared:
    """A network on its device, the files that it is from, what it decodes, and how."""

    model: CtcModel
    files: list[Path]
    manifest: Manifest
    settings: BeamSettings | None
    windows: Windows | None
    max_samples: int


def prepare_decoding(options: argparse.Namespace) -> Prepared:
    """Load what options.py's options name; raises InputError for what does not fit, the cheap checks first."""
    refuse_missing_gpu(options.device)
    if options.average_last < 0 or options.batch_seconds <= 0:
        raise InputError("--average-last and --batch-seconds: expected positive numbers")
    settings, manifest = settings_from(options), read_manifest(options.manifest)
    files = checkpoint_files(options.checkpoint, options.average_last)
    model = load_ctc(
        options.checkpoint,
        options.labels_dir,
        average_last=options.average_last,
        sample_audio=first_recordings(options.manifest),
    )
    model.network.to(options.device, _precision(options.device, options.dtype))
    model = made_faster(model)
    windows = windows_of(model, options.window, options.overlap)
    return Prepared(model, files, manifest, settings, windows, int(options.batch_seconds * model.sample_rate))


def made_faster(model: CtcModel) -> CtcModel:
    """Return a model on its device that decodes alike in less time: folded on a CPU, in padded batches on a GPU."""
    if next(model.network.parameters()).device.type != "cpu":
        return with_padded_batches(model)
    fold(model)
    return model


def _precision(device: str, name: str) -> torch.dtype:
    """Return the network's precision: on a CPU always float32, which folds and packs; half took four times as long."""
    if device == "cpu" and name != "float32":
        print(f"warning: --dtype {name} is slower than float32 on a CPU and less exact; using float32", file=sys.stderr)
        return torch.float32
    return getattr(torch, name)
