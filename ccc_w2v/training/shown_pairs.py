"""A few pairs of views in TensorBoard at each validation: as sound, as spectrograms, with their codes and clusters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fairseq import utils
from torch.utils.tensorboard import SummaryWriter

from ccc_w2v.augment.preview import log_pairs
from ccc_w2v.training.health.pictures import log_codes_and_clusters


def show_pairs(
    logdir: str, samples: Sequence[dict[str, Any]], model: Any, criterion: Any, sample_rate: int, update: int
) -> None:
    """Write batches of one utterance each, with both views made, below <logdir>/pairs.

    A batch whose utterance could not be read has no pair to show; the training itself reports it.
    """
    good = [sample for sample in samples if "error" not in sample and "lost" not in sample]
    inputs = [sample["net_input"] for sample in good]
    pairs = [(views["source"][0].float().cpu(), views["source_aug"][0].float().cpu()) for views in inputs]
    with SummaryWriter(os.path.join(logdir, "pairs")) as writer:
        log_pairs(writer, pairs, sample_rate, update)
        # A model that is spread over processes cannot run on the first of them alone.
        if criterion is not None and type(model).__name__ != "FullyShardedDataParallel":
            on_device = [_on_device(sample, model) for sample in good]
            log_codes_and_clusters(writer, model, criterion, on_device, sample_rate, update)


def _on_device(sample: dict[str, Any], model: Any) -> dict[str, Any]:
    """Return a batch on the model's device and in its precision."""
    parameter = next(model.parameters())
    moved = utils.move_to_cuda(sample) if parameter.is_cuda else sample
    views = moved["net_input"]
    rounded = {name: views[name].to(parameter.dtype) for name in ("source", "source_aug")}
    return {**moved, "net_input": views | rounded}
