"""The transformers model that a checkpoint is the same as, and the recordings to compare the two on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.checkpoint.huggingface_config import transformers_config
from ccc_w2v.checkpoint.huggingface_tensors import fill
from ccc_w2v.checkpoint.plain import receptive_field
from ccc_w2v.data.audio import read_audio
from ccc_w2v.errors import InputError


def build(plain: dict[str, Any]) -> Any:
    """Return the transformers model of a plain state, in eval mode, every tensor of both sides accounted for."""
    try:
        from transformers import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining
    except ImportError as error:
        raise InputError(f"transformers cannot be imported ({error}); pip install transformers") from error
    symbols = plain.get("ccc_dictionary", {}).get("symbols", [])
    config = transformers_config(plain["cfg"], len(symbols))
    model = Wav2Vec2ForCTC(config) if symbols else Wav2Vec2ForPreTraining(config)
    fill(model, plain["model"], finetuned=bool(symbols))
    return model.eval()


def read_samples(paths: Sequence[str | Path] | None, config: Any, sample_rate: int) -> list[torch.Tensor]:
    """Read the recordings to compare two models on; raises InputError where there is none or one does not fit."""
    if not paths:
        raise InputError("no recording to compare the models on; give some with --audio or --manifest")
    layers = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    min_samples = receptive_field(layers)
    return [read_audio(path, sample_rate, min_samples=min_samples) for path in paths]
