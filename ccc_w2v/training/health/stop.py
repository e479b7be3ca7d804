"""A training that a validation has found collapsed ends there, on every rank, where its task wants it."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
import torch.distributed

EXIT_CODE = 3


@functools.cache
def stop_when_collapsed() -> None:
    """Let a task's ``collapse``, a sentence, end the training after the validation that set it, with exit code 3.

    fairseq has saved what it saves after a validation by then. No further checkpoint is written: resumed, a collapsed
    run would only continue as it is.
    """
    # Only the training command imports it; importing it elsewhere would turn on its log.
    training: Any = sys.modules.get("fairseq_cli.train")
    if training is None:
        return
    proceed = training.validate_and_save

    @functools.wraps(proceed)
    def validate_and_save(cfg: Any, trainer: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        valid_losses, should_stop = proceed(cfg, trainer, task, *args, **kwargs)
        validated = valid_losses[0] is not None
        if validated and _any_rank(getattr(task, "collapse", None) is not None, trainer.device):
            if trainer.is_data_parallel_master:
                print(f"error: {task.collapse}", file=sys.stderr, flush=True)
            raise SystemExit(EXIT_CODE)
        return valid_losses, should_stop

    training.validate_and_save = validate_and_save


def _any_rank(told: bool, device: torch.device) -> bool:
    flag = torch.tensor([told], dtype=torch.int32, device=device)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
