"""Which masked frames a masked frame is contrasted with, and which of them are really positives.

Letters: B utterances, M masked frames of each, N negatives per frame, G codebook groups.
"""

from __future__ import annotations

from typing import Any

import torch


def sample_negatives(
    utterances: int,
    frames: int,
    count: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw for each masked frame N others of its utterance, uniformly and never itself: indices (B, M, N) in 0..M-1.

    The indices live on the generator's device. A single masked frame has no other: its draws are itself, which
    equal_codes masks out, so that its loss is zero. Source: docs/method.md, section 2; wav2vec 2.0 (arXiv 2006.11477)
    section 3.2.
    """
    device = generator.device
    if frames == 1:
        return torch.zeros(utterances, 1, count, dtype=torch.long, device=device)
    drawn_BMN = torch.randint(frames - 1, (utterances, frames, count), generator=generator, device=device)
    own_M1 = torch.arange(frames, device=device).unsqueeze(-1)
    # Skipping its own position shifts every draw at or above it by one.
    return drawn_BMN + (drawn_BMN >= own_M1)


def equal_codes(codes_BMG: torch.Tensor, negatives_BMN: torch.Tensor) -> torch.Tensor:
    """Tell where a negative has its positive's code in every group: bool (B, M, N).

    Indices are compared, not vectors: the straight-through estimator leaves rounding noise in the vectors, and equal
    codes would be missed.
    """
    groups = [_same(codes_BM, negatives_BMN) for codes_BM in codes_BMG.unbind(-1)]
    return torch.stack(groups).all(dim=0)


def near_positives(labels_BM: torch.Tensor, negatives_BMN: torch.Tensor) -> torch.Tensor:
    """Tell where a negative lies in its positive's cluster: bool (B, M, N) (docs/method.md, section 3)."""
    return _same(labels_BM, negatives_BMN)


def _same(values_BM: torch.Tensor, negatives_BMN: torch.Tensor) -> torch.Tensor:
    # (B, 1, M): all frames of an utterance pick from one row.
    return of_negatives(values_BM.unsqueeze(1), negatives_BMN) == values_BM.unsqueeze(-1)


def of_negatives(columns: torch.Tensor, negatives_BMN: torch.Tensor) -> torch.Tensor:
    """Pick each frame's sampled columns out of (B, M or 1, M): result (B, M, N).

    On a GPU the backward pass adds in a fixed order; gather's own takes the order in which the threads come.
    """
    columns = columns.expand(-1, negatives_BMN.size(1), -1)
    if columns.is_cuda:
        return _OrderedGather.apply(columns, negatives_BMN)
    return torch.gather(columns, 2, negatives_BMN)


class _OrderedGather(torch.autograd.Function):
    """torch.gather over the last of three dimensions; frames that were drawn twice add their gradients in order."""

    @staticmethod
    def forward(ctx: Any, columns_BMC: torch.Tensor, negatives_BMN: torch.Tensor) -> torch.Tensor:
        """Pick the columns."""
        ctx.save_for_backward(negatives_BMN)
        ctx.shape = columns_BMC.shape
        return torch.gather(columns_BMC, 2, negatives_BMN)

    @staticmethod
    def backward(ctx: Any, gradient_BMN: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Add up the gradients of each column: sorted by column, then one sum after the other, never atomically."""
        (negatives_BMN,) = ctx.saved_tensors
        utterances, frames, columns = ctx.shape
        row_BM1 = torch.arange(utterances * frames, device=gradient_BMN.device).view(utterances, frames, 1)
        place_P = (row_BM1 * columns + negatives_BMN).flatten()
        # With accumulate, index_put sorts the places (stably) on a GPU before it adds, with or without torch's
        # deterministic algorithms; scatter_add, which gather's own backward is, adds atomically.
        summed_P = gradient_BMN.new_zeros(utterances * frames * columns)
        return summed_P.index_put_((place_P,), gradient_BMN.flatten(), accumulate=True).view(ctx.shape), None
