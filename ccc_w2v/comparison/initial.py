"""The weights that a pre-training would begin with, as a checkpoint: the arm without pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from ccc_w2v.checkpoint.plain import to_plain, write_plain
from ccc_w2v.planning.recipe import compose_config


def write_initial(config: Path, overrides: Sequence[str], out: Path) -> None:
    """Write a configuration's model, as fairseq-hydra-train draws it from common.seed, as a plain checkpoint."""
    from fairseq import tasks, utils

    cfg = compose_config(config, overrides)
    task = tasks.setup_task(cfg.task)
    # fairseq draws weights from torch's global generator; it is left as it was.
    with torch.random.fork_rng(devices=[]):
        utils.set_torch_seed(cfg.common.seed)
        model = task.build_model(cfg.model)
    # With values in place of interpolations, which a checkpoint must not hold.
    values = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    write_plain(to_plain({"cfg": values, "model": model.state_dict(), "optimizer_history": []}), out, overwrite=True)
