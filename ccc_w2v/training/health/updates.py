"""Values of an update that no criterion sees: gradient norms by block, skipped updates, speed, GPU memory."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.logging import metrics

from ccc_w2v.losses.batch_signals import SLOW_EVERY

# A block by the first name of its parameters; what is not named here are the layers between the blocks.
BLOCKS = {"feature_extractor": "feature_extractor", "encoder": "encoder", "quantizer": "quantizer"}
BLOCKS["project_q"] = "quantizer"
BETWEEN = "projections"
# What fairseq logs of an update outside the task's own metrics.
OF_TRAINER = ("gnorm", "lr", "loss_scale")
OVER_WINDOW = ("codes_in_use", "codes_in_use_aug")


class UpdateWatch:
    """Follows the updates of one process between the calls that fairseq makes to the task."""

    def __init__(self) -> None:
        self.batches = 0
        self.shares: dict[str, float] = {}
        self.latest: dict[str, float] = {}

    def batch(self) -> None:
        """Count a batch that was run forward and backward."""
        self.batches += 1

    def stepped(self, model: torch.nn.Module, update: int, update_freq: int) -> int:
        """Read the gradients before the optimiser's step, now and then; returns how many updates were skipped before.

        fairseq skips the step of an update whose fp16 gradients overflow: its batches were run in vain.
        """
        skipped = -(-self.batches // max(update_freq, 1)) - 1
        self.batches = 0
        self.shares = gradient_shares(model) if update % SLOW_EVERY == 0 else {}
        return max(skipped, 0)

    def log(self, skipped: int) -> None:
        """Log what an update was like; every process logs the same, since the gradients are those of all."""
        norm = trainer_values().get("gnorm")
        for block, share in self.shares.items():
            if norm is not None:
                metrics.log_scalar(f"gradient_norm_{block}", share**0.5 * norm, round=4)
        metrics.log_scalar("skipped_share", skipped / (skipped + 1), weight=skipped + 1, round=4)
        if torch.cuda.is_available():
            metrics.log_scalar("gpu_peak_gib", torch.cuda.max_memory_allocated() / 2**30, weight=0, round=2)

    def repeat_slow(self, values: dict[str, Any]) -> None:
        """Show signals that this update has not measured as they were last measured, instead of as missing."""
        for name in self.latest.keys() - values.keys():
            metrics.log_scalar(name, self.latest[name], weight=0, round=4)
        self.latest |= {name: value for name, value in values.items() if isinstance(value, float)}


def gradient_shares(model: torch.nn.Module) -> dict[str, float]:
    """Return each block's share of the squared gradient norm; clipping and loss scales do not change it."""
    squares: dict[str, list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            first = name.removeprefix("module.").partition(".")[0]
            squares.setdefault(BLOCKS.get(first, BETWEEN), []).append(parameter.grad.detach().float().square().sum())
    if not squares:
        return {}
    sums = torch.stack([torch.stack(values).sum() for values in squares.values()])
    shares = sums / sums.sum().clamp_min(torch.finfo(sums.dtype).tiny)
    return dict(zip(squares, shares.tolist(), strict=True))


def trainer_values() -> dict[str, float]:
    """Return what fairseq has logged of this update outside the task: gradient norm, learning rate, loss scale."""
    values: dict[str, float] = {}
    for aggregator in metrics.get_active_aggregators():
        for name in OF_TRAINER:
            if name in aggregator and aggregator[name].val is not None:
                values.setdefault(name, float(aggregator[name].val))
    return values


def window_values() -> dict[str, float]:
    """Return what only the time since the last line of the log can say: how many codes have been in use in it."""
    meters = metrics.get_meters("train_inner")
    if meters is None:
        return {}
    return {name: float(meters.get_smoothed_value(name)) for name in OVER_WINDOW if name in meters}
