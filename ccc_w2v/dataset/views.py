"""Both views of a batch from its crops: augmented in a data worker, or on the model's device after the copy.

Shapes: B utterances, S samples of the longest. Whatever is drawn or read from disk is in the crops already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def _normalized(waves_BS: Tensor, lengths: tuple[int, ...]) -> Tensor:
    if len(set(lengths)) == 1:
        return F.layer_norm(waves_BS, waves_BS.shape[1:])
    normalized_BS = torch.zeros_like(waves_BS)
    for row_S, wave_S, length in zip(normalized_BS, waves_BS, lengths, strict=True):
        row_S[:length] = F.layer_norm(wave_S[:length], (length,))
    return normalized_BS
