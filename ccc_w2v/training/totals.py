"""What a pre-training logs of itself beside the criterion's values: running totals, speed, and the device's use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from fairseq.logging import metrics

from ccc_w2v.training.precision import uses_bf16
from ccc_w2v.training.utilisation import matmul_flops_per_second, training_flops

DATA_TIMES = ("data_wait", "data_passed")  # seconds waited for data, of how many seconds
# What the task adds to a batch's log. fairseq's own criterion would show it as losses.
COUNTED = (*DATA_TIMES, "flops", "audio_samples", "bad_audio")
PROCESSED = "processed_"  # samples of a corpus of a mixture, by its name


def empty_counts() -> dict[str, int]:
    """Return what is counted over a whole run, at its start."""
    return {"audio_samples": 0, "bad_audio": 0}


def without_counted(logs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the criterion logged of each batch."""
    return [{name: log[name] for name in log if not (name in COUNTED or name.startswith(PROCESSED))} for log in logs]


class Totals:
    """Logs totals and speed; ``cfg`` is the task's settings, and ``counts`` (empty_counts) is added to in place."""

    def __init__(self, cfg: Any):
        self.cfg = cfg
        self._limit: float | None = None  # FLOPs per second that the device reaches in a matrix product

    # Other sections' settings are looked up once: omegaconf takes a quarter of a millisecond.
    @functools.cached_property
    def _world_size(self) -> int:
        return int(self.cfg.world_size)

    @functools.cached_property
    def _max_update(self) -> int:
        return int(self.cfg.max_update)

    def flops(self, sample: dict[str, Any], model: Any, criterion: Any) -> float:
        """Return what a batch costs the network, forward and backward, and a teacher, forward."""
        waves_BS = sample["crops"].waves_BS if "crops" in sample else sample["net_input"]["source"]
        # fairseq's own criterion has one view.
        views, contexts = criterion.encoded_views(model) if hasattr(criterion, "encoded_views") else (1, 1)
        utterances, samples = waves_BS.shape
        teachers = int(getattr(criterion, "prediction", None) is not None)
        return float(training_flops(model, utterances, samples, views, contexts, teachers=teachers))

    def log(self, logs: Sequence[dict[str, Any]], counts: dict[str, int], model: Any, update: int | None) -> float:
        """Log the batches of an update (from 0; None: of a validation); returns how long the update took [s]."""
        for key in counts:
            counts[key] += int(_total(logs, key))
        waited, passed = (_total(logs, key) for key in DATA_TIMES)
        if passed:
            metrics.log_scalar("data_wait_share", waited / passed, weight=passed, round=4)
        # Each process passes the same time.
        seconds = passed / self._world_size
        if update is not None and seconds:
            audio = _total(logs, "audio_samples") / self.cfg.sample_rate
            metrics.log_scalar("audio_per_update", audio, round=1)
            metrics.log_scalar("times_real_time", audio / seconds, weight=seconds, round=2)
            metrics.log_scalar("audio_hours_per_device_hour", audio / passed, weight=passed, round=2)
            self._log_utilisation(_total(logs, "flops"), passed, model)
            left = max(self._max_update - update - 1, 0)
            metrics.log_scalar("hours_left", left * seconds / 3600, round=3)
        # Weight 0: a total is shown as it stands, not averaged over the logging interval.
        metrics.log_scalar("audio_seconds", counts["audio_samples"] / self.cfg.sample_rate, weight=0, round=1)
        metrics.log_scalar("bad_audio", counts["bad_audio"], weight=0)
        for key in counts:
            if key.startswith(PROCESSED):
                hours = counts[key] / self.cfg.sample_rate / 3600
                metrics.log_scalar(f"hours_{key.removeprefix(PROCESSED)}", hours, weight=0, round=5)
        return seconds

    def _log_utilisation(self, flops: float, passed: float, model: Any) -> None:
        """Log which share of the device's matrix products an update's needed FLOPs are, in device seconds passed."""
        if not flops:
            return
        if self._limit is None:
            device = next(model.parameters()).device
            in_bf16 = self.cfg.bf16 or uses_bf16(str(getattr(model.cfg, "autocast", "none")), device)
            dtype = torch.bfloat16 if in_bf16 else torch.float16 if self.cfg.fp16 else torch.float32
            self._limit = matmul_flops_per_second(dtype, device)
        metrics.log_scalar("mfu", flops / passed / self._limit, weight=passed, round=4)


def _total(logs: Sequence[dict[str, Any]], key: str) -> float:
    return float(sum(log.get(key, 0) for log in logs))
