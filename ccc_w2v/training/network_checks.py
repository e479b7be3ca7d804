"""Checks of a network that fairseq's own tasks train, fine-tuning first of all, as its training begins.

What is refused here would end some later update with a traceback, or with the whole process killed for memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from ccc_w2v.capacity import check_memory
from ccc_w2v.errors import InputError

# Our own pre-training draws its masks itself, an empty one is none; and its task checks its crops.
OURS = "ccc_wav2vec2"


@functools.cache
def check_networks() -> None:
    """Check the masks and the memory of a training once its network and its data are there."""
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        model = trainer.cfg.model
        if getattr(model, "_name", None) == OURS:
            return load(cfg, trainer, **passthrough)
        if getattr(model, "apply_mask", True):
            check_channel_mask(trainer.model)
        loaded = load(cfg, trainer, **passthrough)
        check_longest(trainer)
        return loaded

    checkpoint_utils.load_checkpoint = load_checkpoint


def _wav2vec_models(model: nn.Module) -> Iterator[Any]:
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model

    return (part for part in model.modules() if isinstance(part, Wav2Vec2Model))


def check_channel_mask(model: nn.Module) -> None:
    """Raise InputError if fairseq's mask of channels could come out empty.

    `compute_mask_indices` draws int(probability * channels / length + uniform) spans and raises "this should never
    happens" for none, so that a product below one fails by chance in any update.
    """
    for part in _wav2vec_models(model):
        if part.mask_channel_selection != "static":
            continue
        width, length = part.cfg.encoder_embed_dim, part.mask_channel_length
        if 0 < part.mask_channel_prob * width < length:
            raise InputError(
                f"model.mask_channel_prob={part.mask_channel_prob:g} of {width} channels is less than one span of "
                f"model.mask_channel_length={length}, which fairseq cannot draw; set model.mask_channel_length to at "
                f"most {int(part.mask_channel_prob * width)}, or model.mask_channel_prob to 0"
            )


def check_longest(trainer: Any) -> None:
    """Raise InputError if one utterance as long as the longest of the training set cannot fit into memory."""
    cfg, task = trainer.cfg, trainer.task
    subset = cfg.dataset.train_subset
    sizes = getattr(task.datasets.get(subset), "sizes", ())
    if not len(sizes):
        return
    bounds = (cfg.dataset.max_tokens, getattr(cfg.task, "max_sample_size", None))
    longest = min([int(np.max(sizes)), *(bound for bound in bounds if bound)])
    trained = getattr(cfg.model, "freeze_finetune_updates", 0) < (cfg.optimization.max_update or float("inf"))
    for part in _wav2vec_models(trainer.model):
        check_memory(
            f"{cfg.task.data}/{subset}.tsv",
            part,
            longest,
            sample_rate=getattr(cfg.task, "sample_rate", 16000),
            half=cfg.common.fp16 or cfg.common.bf16,
            training=trained,
            remedy=f"set dataset.max_tokens (now {cfg.dataset.max_tokens}) to the longest utterance to keep, or cut "
            "recordings at pauses with ccc-w2v manifest",
        )
