"""A trace of a few updates, for ui.perfetto.dev or chrome://tracing: what a training with common.profile=true writes.

fairseq's own profiling marks ranges for NVIDIA's tools and writes nothing; it cannot start without a GPU.
"""

from __future__ import annotations

import functools
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from ccc_w2v.files import whole

logger = logging.getLogger(__name__)

TRACE = "trace.json.gz"
SKIPPED, RECORDED = 5, 5  # the first updates of a process allocate memory and choose kernels


@contextmanager
def traced(folder: Path) -> Iterator[None]:
    """Record updates 6 to 10 of the training that runs within into <folder>/trace.json.gz."""
    from fairseq.trainer import Trainer

    train_step = Trainer.train_step
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    plan = schedule(wait=SKIPPED - 1, warmup=1, active=RECORDED, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=functools.partial(_write, folder)) as recorded:

        @functools.wraps(train_step)
        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = train_step(self, *args, **kwargs)
            recorded.step()
            return result

        Trainer.train_step = step
        try:
            yield
        finally:
            Trainer.train_step = train_step
    if not (folder / TRACE).is_file():
        logger.warning(f"common.profile: the training ended before update {SKIPPED + 1}, nothing was recorded")


def _write(folder: Path, recorded: profile) -> None:
    with whole(folder / TRACE, overwrite=True) as partial, tempfile.TemporaryDirectory() as scratch:
        # The profiler compresses what ends in .gz, as the neighbour does not.
        compressed = Path(scratch) / TRACE
        recorded.export_chrome_trace(str(compressed))
        shutil.copyfile(compressed, partial)
    logger.info(f"trace of {RECORDED} updates: {folder / TRACE}; open it in ui.perfetto.dev")
