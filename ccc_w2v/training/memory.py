"""A GPU without enough memory ends the run with one line; fairseq would leave out the batch, at worst every batch."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def end_out_of_memory() -> None:
    """Let a training raise what the GPU says of a batch that does not fit: without it the run would be another one."""
    from fairseq.trainer import Trainer

    step = Trainer.train_step

    @functools.wraps(step)
    def train_step(self: Any, samples: Any, raise_oom: bool = True) -> Any:
        return step(self, samples, raise_oom=True)

    Trainer.train_step = train_step
