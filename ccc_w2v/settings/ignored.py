"""Settings that pre-training would take and ignore, or that this machine cannot honour: refused at the start."""

from __future__ import annotations

from typing import Any

from ccc_w2v.capacity import gpu_here
from ccc_w2v.errors import InputError

# Settings of fairseq's audio_pretraining that two views do not take, with the value that changes nothing.
IGNORED = {
    "labels": None,
    "binarized_dataset": False,
    "num_batch_buckets": 0,
    "tpu": False,
    "text_compression_level": "none",
    "precompute_mask_config": None,
    "precompute_mask_indices": False,
    "subsample": 1,
    "post_save_script": None,  # fairseq has a method for it, and nothing calls that
}


def refuse_ignored(cfg: Any) -> None:
    """Raise InputError for a setting that this task would take and ignore, or that this machine cannot honour."""
    for name, neutral in IGNORED.items():
        value = getattr(cfg, name, neutral)
        value = getattr(value, "value", value)
        if value != neutral and not (value is None and not neutral):
            raise InputError(f"task.{name}={value}: ccc_pretraining does not support it; leave it at {neutral}")
    if str(cfg.augment_device) == "gpu" and (cfg.cpu or not gpu_here()):
        why = "common.cpu=true" if cfg.cpu else "torch finds none here"
        raise InputError(f"task.augment_device=gpu needs a GPU, and {why}; set task.augment_device=cpu")
    for name in ("reuse_dataloader", "persistent_workers"):
        if getattr(cfg, name):
            raise InputError(f"task.{name}=true: data workers would keep the first epoch's crops; leave it at false")
