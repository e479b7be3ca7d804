"""Both views of a batch from its crops: augmented in a data worker, or on the model's device after the copy.

Shapes: B utterances, S samples of the longest. Whatever is drawn or read from disk is in the crops already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ccc_w2v.augment.pipeline import Drawn, Pipeline

AUGMENT_DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Crops:
    """A batch before augmentation: waves (B, S), zero behind each one's length, and the draws for each, loaded.

    fairseq moves and rounds the tensors of a batch, but leaves objects alone: waves inside one stay float32 until they
    are augmented, whatever the precision of the training.
    """

    waves_BS: Tensor
    lengths: tuple[int, ...]
    drawn: tuple[Drawn, ...]

    def to(self, device: torch.device) -> Crops:
        """Return the same with the waves on another device; what was loaded follows each transform."""
        return replace(self, waves_BS=self.waves_BS.to(device, non_blocking=True))


def two_views(crops: Crops, pipeline: Pipeline, normalize: bool) -> dict[str, Tensor]:
    """Return source and source_aug (B, S) float32, zero where the crops are padded, on the crops' device.

    With ``normalize`` each utterance of each view has mean 0 and variance 1, after its augmentation.
    """
    waves_BS, lengths = crops.waves_BS, crops.lengths
    if len(set(lengths)) == 1 and waves_BS.device.type != "cpu":
        augmented_BS = pipeline.apply(waves_BS, crops.drawn)
    else:
        # One at a time, without the padding: it would fill with echoes and dilute every level measured over it. On a
        # CPU also where there is none: one wave stays in the cache from step to step.
        augmented_BS = torch.zeros_like(waves_BS)
        for row_S, wave_S, length, drawn in zip(augmented_BS, waves_BS, lengths, crops.drawn, strict=True):
            row_S[:length] = pipeline.apply(wave_S[None, :length], [drawn])[0]
    if normalize:
        waves_BS, augmented_BS = _normalized(waves_BS, lengths), _normalized(augmented_BS, lengths)
    return {"source": waves_BS, "source_aug": augmented_BS}


def with_both_views(sample: dict[str, Any], pipeline: Any, normalize: bool, model: Any) -> dict[str, Any]:
    """Return a batch with both views, made on the model's device where the data workers have not made them."""
    if "crops" not in sample:
        return sample
    assert pipeline is not None, "a batch comes from a dataset, and load_dataset makes the pipeline"
    parameter = next(model.parameters())
    with torch.no_grad():
        views = two_views(sample["crops"].to(parameter.device), pipeline, normalize)
    # fairseq has rounded the rest of a batch to the training's precision before.
    return {**sample, "net_input": sample["net_input"] | {k: v.to(parameter.dtype) for k, v in views.items()}}


def with_single_view(sample: dict[str, Any], view: str, model: Any) -> dict[str, Any]:
    """Return a batch with "original" or "augmented" as its only view, under the mask that both would have had."""
    views = dict(sample["net_input"])
    augmented_BS = views.pop("source_aug")
    if view == "augmented":
        views["source"] = augmented_BS
    # fairseq's own draw cannot be repeated.
    mask_BT = model.draw_mask(views["source"], views.get("padding_mask"), views["seed"], views.get("lengths"))
    views["mask_indices"] = mask_BT.to(augmented_BS.device)
    return {**sample, "net_input": views}


def _normalized(waves_BS: Tensor, lengths: tuple[int, ...]) -> Tensor:
    if len(set(lengths)) == 1:
        return F.layer_norm(waves_BS, waves_BS.shape[1:])
    normalized_BS = torch.zeros_like(waves_BS)
    for row_S, wave_S, length in zip(normalized_BS, waves_BS, lengths, strict=True):
        row_S[:length] = F.layer_norm(wave_S[:length], (length,))
    return normalized_BS
