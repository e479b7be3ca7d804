"""The signals of health as fairseq logs them: the same name in the log line, in TensorBoard and in JSON."""

from __future__ import annotations

import functools
from typing import Any

import torch
from fairseq.logging import metrics
from fairseq.logging.meters import SumMeter

from ccc_w2v.losses.views import SUFFIX

# How logged values are told apart that are all reduced alike: sums and counts of signals, and counts of codes.
SIGNAL, USAGE = "signal_", "code_usage"


def log_signals(logs: list[dict[str, Any]]) -> None:
    """Log every signal of health as its sum over its count, and how many codes have been in use since the last line."""
    names = [name for name in dict.fromkeys(key for log in logs for key in log) if name.startswith(SIGNAL)]
    if names:
        sums: Any = [sum(torch.as_tensor(log[name]).double() for log in logs if name in log) for name in names]
        # One transfer for all of them.
        for name, (total, count) in zip(names, torch.stack(sums).tolist(), strict=True):
            if count:
                metrics.log_scalar(name.removeprefix(SIGNAL), total / count, count, round=4)
    for suffix in SUFFIX.values():
        used = [log[USAGE + suffix] for log in logs if USAGE + suffix in log]
        if used:
            # A name that begins with "_" is added up, and not shown.
            metrics.log_custom(SumMeter, f"_{USAGE}{suffix}", sum(used).cpu())
            metrics.log_derived(f"codes_in_use{suffix}", functools.partial(_codes_in_use, f"_{USAGE}{suffix}"))


def _codes_in_use(key: str, meters: Any) -> int:
    return int((torch.as_tensor(meters[key].sum) > 0).sum())
