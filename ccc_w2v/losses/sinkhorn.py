"""Soft clusters of about equal use: Sinkhorn-Knopp over the points of all processes.

Letters: N points, K prototypes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed

HIGHEST = 50.0  # each prototype's best point starts from exp of this: the rest falls below fp32's range late
FLOOR = 1e-8  # added to every sum that is divided by


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, iterations: int) -> torch.Tensor:
    """Return soft assignments (..., N, K) of points to prototypes from their scores (a similarity over a temperature).

    Each iteration divides each prototype's column by its sum over the points of all processes, then each point's row by
    its sum, so that a row adds up to 1 and prototypes get alike shares. A point far from all prototypes under a cold
    temperature keeps less than 1. Every process must call it as often as the others; a process may have no points.
    Source: CAPI (arXiv 2502.08769), the authors' code.
    """
    # A row of -inf more: a process without points takes part in the maximum.
    lowest = scores.new_full((*scores.shape[:-2], 1, scores.size(-1)), float("-inf"))
    shift = all_reduced(torch.cat([scores, lowest], dim=-2).amax(dim=-2, keepdim=True), distributed.ReduceOp.MAX)
    # The shift of a column cancels in its first division, but for FLOOR; without it exp would overflow.
    assigned = (scores + (HIGHEST - shift)).exp()
    for _ in range(iterations):
        assigned = assigned / (all_reduced(assigned.sum(dim=-2, keepdim=True)) + FLOOR)
        assigned = assigned / (assigned.sum(dim=-1, keepdim=True) + FLOOR)
    return assigned


def all_reduced(value: torch.Tensor, how: Any = distributed.ReduceOp.SUM) -> torch.Tensor:
    """Return the sum (or what ``how`` names) of a tensor over all processes; the tensor itself where there is one."""
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        distributed.all_reduce(value, how)
    return value
