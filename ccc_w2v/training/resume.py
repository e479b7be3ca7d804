"""Patches of fairseq's training loop that let a stopped training resume: whole checkpoints, its place, its signals.

They are the same for both supported fairseqs; `training/loop.py` applies them. Each works for any task that fairseq
trains while the plugin is loaded, fine-tuning included.
"""

from __future__ import annotations

import functools
import logging
import math
import sys
from pathlib import Path
from typing import Any

import torch.distributed

from ccc_w2v.compat import starts_from_another
from ccc_w2v.errors import one_line_errors
from ccc_w2v.training.checkpoint_files import LAST, copy_whole, restore_last, save_whole
from ccc_w2v.training.stopping import StopRequest

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
    """Let a training resume at its place in an epoch when the number of processes has changed.

    fairseq keeps the number of batches that one process has seen: with fewer processes it would process some of them
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
            done = state["iterations_in_epoch"] * before
            state = {**state, "iterations_in_epoch": done // now}
            if self.shard_id == 0:
                logger.warning(
                    f"{before} process(es) before, {now} now: epoch {state['epoch']} resumes after the {done} batches "
                    f"processed by all of them; {done % now} of these will be processed again"
                )
        take(self, state)

    EpochBatchIterator.state_dict, EpochBatchIterator.load_state_dict = state_dict, load_state_dict


class RunIsFinished(SystemExit):
    """Ends a run that was started again with nothing left to do; exit code 0 where nobody catches it."""


@functools.cache
def end_where_finished() -> None:
    """Let a finished run that is started again say so; fairseq would train one update more and save it.

    Finished by the number of updates, by hours or by patience; with too many epochs fairseq ends by itself. Patience is
    kept in the checkpoint for that, beside the place in the epoch: fairseq forgets how often validation was no better.
    """
    from fairseq import checkpoint_utils
    from fairseq.data.iterators import EpochBatchIterator

    # Only the training command imports it; importing it elsewhere would turn on its log.
    training = sys.modules.get("fairseq_cli.train")
    if training is None:
        return
    give, load = EpochBatchIterator.state_dict, checkpoint_utils.load_checkpoint
    early = training.should_stop_early

    @functools.wraps(give)
    def state_dict(self: Any) -> dict[str, Any]:
        return {**give(self), "patience": dict(vars(early))}

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        extra_state, epoch_itr = load(cfg, trainer, **passthrough)
        if starts_from_another(cfg, trainer):
            trainer._previous_training_time = 0  # else the other run's
        elif extra_state is not None and not cfg.reset_dataloader:
            vars(early).update(extra_state["train_iterator"].get("patience", {}))
        why = _why_finished(trainer, getattr(early, "num_runs", 0))
        if extra_state is not None and why:
            if trainer.is_data_parallel_master:
                logger.info(
                    f"{Path(cfg.save_dir).absolute()}: this run is finished: {why}; raise that to train on, or set "
                    "checkpoint.save_dir to another folder"
                )
            raise RunIsFinished(0)
        return extra_state, epoch_itr

    EpochBatchIterator.state_dict, checkpoint_utils.load_checkpoint = state_dict, load_checkpoint


def _why_finished(trainer: Any, not_better: int) -> str | None:
    """Say which of the configuration's limits a training has reached; None before it has reached any."""
    limits, updates = trainer.cfg.optimization, trainer.get_num_updates()
    hours = trainer.cumulative_training_time() / 3600
    if updates >= (limits.max_update or math.inf):
        return f"{updates} updates are made, optimization.max_update={limits.max_update}"
    if limits.stop_time_hours > 0 and hours > limits.stop_time_hours:
        return f"it has trained for {hours:.2f} h, optimization.stop_time_hours={limits.stop_time_hours}"
    if 0 < trainer.cfg.checkpoint.patience <= not_better:
        return f"{not_better} validations were no better, checkpoint.patience={trainer.cfg.checkpoint.patience}"
    return None


@functools.cache
def keep_schedule() -> None:
    """Let a resumed run's learning-rate schedule and optimiser history equal the uninterrupted run's.

    fairseq saves the end of an epoch before it hands the epoch's validation loss to the schedule, and does not do so
    when it resumes: `reduce_lr_on_plateau` would miss an epoch; other schedules only store the best loss.
    The history grows by an entry for each resume, of which only the last is ever read; earlier optimisers' stay.
    """
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        extra_state, epoch_itr = load(cfg, trainer, **passthrough)
        goes_on = extra_state is not None and trainer.get_num_updates() > 0 and not cfg.reset_optimizer
        if goes_on:
            trainer._optim_history = trainer._optim_history[:-1]
            place = extra_state["train_iterator"]
            if place["iterations_in_epoch"] == 0 and not (cfg.reset_lr_scheduler or cfg.reset_dataloader):
                trainer.lr_step(place["epoch"] - 1)  # sets the schedule back from the epoch that begins
                trainer.lr_step(place["epoch"] - 1, extra_state["val_loss"])
        return extra_state, epoch_itr

    checkpoint_utils.load_checkpoint = load_checkpoint


@functools.cache
def stop_when_told() -> None:
    """Let SIGUSR1, SIGTERM and Ctrl-C end a training with its checkpoint saved; the same command resumes.

    fairseq stops by itself only after a number of updates or hours, and validates first: a pre-empted job has no time.
    Exit code 75 after a signal of a cluster's manager, 130 after Ctrl-C. A task's `report_end` is called at the end.
    """
    from fairseq import checkpoint_utils

    training: Any = sys.modules.get("fairseq_cli.train")
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
    def validate_and_save(
        cfg: Any, trainer: Any, task: Any, epoch_itr: Any, valid_subsets: Any, end_of_epoch: bool
    ) -> Any:
        code, updates = request.agreed(trainer.device), trainer.get_num_updates()
        # The last update ends the training anyway.
        if not code or updates >= (cfg.optimization.max_update or math.inf):
            losses, should_stop = proceed(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
            if should_stop or (end_of_epoch and epoch_itr.epoch >= (cfg.optimization.max_epoch or math.inf)):
                _report_end(trainer)
            return losses, should_stop
        checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        # A launcher kills the other ranks when the first one leaves, which must not hit the one that writes.
        _wait_for_all()
        if trainer.is_data_parallel_master:
            logger.warning(f"told to stop: saved after update {updates}; the same command resumes from there")
        _report_end(trainer)
        request.leave()
        raise SystemExit(code)

    checkpoint_utils.load_checkpoint, training.validate_and_save = load_checkpoint, validate_and_save


def _report_end(trainer: Any) -> None:
    if trainer.is_data_parallel_master and hasattr(trainer.task, "report_end"):
        trainer.task.report_end()


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
