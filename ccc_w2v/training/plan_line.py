"""The plan of a pre-training in one line: what the run is about to do."""

from __future__ import annotations

import os
from typing import Any

import torch

from ccc_w2v.training.precision import precision_chosen


def plan_line(cfg: Any, model_cfg: Any) -> str:
    """Say how many processes, how much audio per update and in all, which views and masks, where it is saved.

    ``cfg`` is the settings of task ccc_pretraining, ``model_cfg`` the model's.
    """
    accumulated = cfg.update_freq[0] if isinstance(cfg.update_freq, list) or cfg.update_freq else 1
    views = "2 views" if str(cfg.views) == "both" else f"the {cfg.views} view alone"
    batches = cfg.world_size * accumulated
    seconds = (cfg.max_tokens or 0) * batches / cfg.sample_rate
    audio = f"up to {seconds:.0f} s of audio per update, {cfg.max_update} updates"
    audio += f" = up to {seconds * cfg.max_update / 3600:.1f} h processed"
    if not cfg.max_tokens:
        audio = f"up to {(cfg.batch_size or 0) * batches} utterances per update, {cfg.max_update} updates"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision_chosen(str(getattr(model_cfg, "autocast", "none")), device)
    deterministic = ", deterministic algorithms" if cfg.deterministic else ""
    return (
        f"plan: {cfg.world_size} process(es), {audio}, {views}{precision}{deterministic}, augmentation {cfg.augment}, "
        f"mask_prob {model_cfg.mask_prob} in spans of {model_cfg.mask_length} frames, checkpoints in "
        f"{os.path.abspath(cfg.save_dir)}"
    )
