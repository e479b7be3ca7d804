"""The mends of fairseq's training loop that let a stopped training go on: whole checkpoints, its place, its signals.

They are the same for both supported fairseqs; `training/loop.py` applies them. Each works for any task that fairseq
trains while the plugin is loaded, fine-tuning included.
"""

from __future__ import annotations

import functools
import logging
import math
import sys
from typing import Any

import torch
import torch.distributed

from ccc_w2v.errors import one_line_errors
from ccc_w2v.training.checkpoint_files import LAST, copy_whole, restore_last, save_whole
from ccc_w2v.training.stopping import EXIT_CODE, StopRequest

logger = logging.getLogger(__name__)


@functools.cache
def keep_checkpoints_whole() -> None:
    """Write every checkpoint whole or not at all, and start from the newest whole one where the last is not.

    fairseq copies the file of an update over checkpoint_last.pt in place, and tries a failed torch.save again behind
    what the first try has written.
    """
    from fairseq import checkpoint_utils
    from fairseq.file_io import PathManager

    save, copy, load = checkpoint_utils.torch_persistent_save, PathManager.copy, checkpoint_utils.load_checkpoint

    @functools.wraps(save)
    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> Any:
        if async_write or not PathManager.supports_rename(filename):
            return save(obj, filename, async_write)
        with one_line_errors():
            return save_whole(obj, filename)

    @functools.wraps(copy)
    def copy_file(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if any(map(PathManager.path_requires_pathmanager, (src_path, dst_path))):
            return copy(src_path, dst_path, overwrite)
        with one_line_errors():
            return copy_whole(src_path, dst_path)

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        # A checkpoint of several files, each with its suffix, is not looked into.
        if cfg.restore_file == LAST and not cfg.no_last_checkpoints and not trainer.checkpoint_suffix:
            if trainer.is_data_parallel_master:
                with one_line_errors():
                    restore_last(cfg.save_dir)
            _wait_for_all()
        return load(cfg, trainer, **passthrough)

    checkpoint_utils.torch_persistent_save = torch_persistent_save
    PathManager.copy = staticmethod(copy_file)
    checkpoint_utils.load_checkpoint = load_checkpoint


@functools.cache
def keep_place_in_epoch() -> None:
    """Let a training go on at its place in an epoch when the number of processes has changed.

    fairseq keeps the number of batches that one process has seen: with fewer processes it would hear some of them
    again, with more it would skip some or stop with "dataloader mismatch".
    """
    from fairseq.data.iterators import EpochBatchIterator

    give, take = EpochBatchIterator.state_dict, EpochBatchIterator.load_state_dict

    @functools.wraps(give)
    def state_dict(self: Any) -> dict[str, Any]:
        return {**give(self), "num_shards": self.num_shards}

    @functools.wraps(take)
    def load_state_dict(self: Any, state: dict[str, Any]) -> None:
        before, now = state.get("num_shards", self.num_shards), self.num_shards
        if before != now:
            heard = state["iterations_in_epoch"] * before
            state = {**state, "iterations_in_epoch": heard // now}
            if self.shard_id == 0:
                logger.warning(
                    f"{before} process(es) before, {now} now: epoch {state['epoch']} goes on after the {heard} batches "
                    f"heard by all of them; {heard % now} of these will be heard again"
                )
        take(self, state)

    EpochBatchIterator.state_dict, EpochBatchIterator.load_state_dict = state_dict, load_state_dict


@functools.cache
def stop_when_told() -> None:
    """Let SIGUSR1 and SIGTERM end a training with its checkpoint saved (exit code 75, the same command goes on).

    fairseq stops by itself only after a number of updates or hours, and validates first: a pre-empted job has no time.
    """
    from fairseq import checkpoint_utils

    # Only the training command imports it; importing it elsewhere would turn on its log.
    training = sys.modules.get("fairseq_cli.train")
    if training is None:
        return
    request = StopRequest()
    load, proceed = checkpoint_utils.load_checkpoint, training.validate_and_save

    @functools.wraps(load)
    def load_checkpoint(*args: Any, **kwargs: Any) -> Any:
        loaded = load(*args, **kwargs)
        request.listen()
        return loaded

    @functools.wraps(proceed)
    def validate_and_save(cfg: Any, trainer: Any, task: Any, epoch_itr: Any, *args: Any, **kwargs: Any) -> Any:
        told, updates = request.agreed(trainer.device), trainer.get_num_updates()
        # The last update ends the training anyway.
        if not told or updates >= (cfg.optimization.max_update or math.inf):
            return proceed(cfg, trainer, task, epoch_itr, *args, **kwargs)
        checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        # A launcher kills the other ranks when the first one leaves, which must not hit the one that writes.
        _wait_for_all()
        if trainer.is_data_parallel_master:
            logger.warning(f"told to stop: saved after update {updates}; the same command goes on from there")
        request.leave()
        raise SystemExit(EXIT_CODE)

    checkpoint_utils.load_checkpoint, training.validate_and_save = load_checkpoint, validate_and_save


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
