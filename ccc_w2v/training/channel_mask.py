"""A fine-tuning's mask of channels: refused at the start where fairseq would end some later update with a traceback."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from ccc_w2v.errors import InputError

# Our own pre-training draws its masks itself, and an empty one is none.
OURS = "ccc_wav2vec2"


@functools.cache
def check_channel_masks() -> None:
    """Check the network's mask of channels as a training, fine-tuning included, begins."""
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        model = trainer.cfg.model
        if getattr(model, "_name", None) != OURS and getattr(model, "apply_mask", True):
            check_channel_mask(trainer.model)
        return load(cfg, trainer, **passthrough)

    checkpoint_utils.load_checkpoint = load_checkpoint


def check_channel_mask(model: nn.Module) -> None:
    """Raise InputError if fairseq's mask of channels could come out empty.

    `compute_mask_indices` draws int(probability * channels / length + uniform) spans and raises "this should never
    happens" for none, so that a product below one fails by chance in any update.
    """
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model

    for part in model.modules():
        if not isinstance(part, Wav2Vec2Model) or part.mask_channel_selection != "static":
            continue
        width, length = part.cfg.encoder_embed_dim, part.mask_channel_length
        if 0 < part.mask_channel_prob * width < length:
            raise InputError(
                f"model.mask_channel_prob={part.mask_channel_prob:g} of {width} channels is less than one span of "
                f"model.mask_channel_length={length}, which fairseq cannot draw; set model.mask_channel_length to at "
                f"most {int(part.mask_channel_prob * width)}, or model.mask_channel_prob to 0"
            )
