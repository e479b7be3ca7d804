"""The online clustering of a teacher's frames: a linear head with an optimiser of its own.

Letters: P points (frames), E width of the Transformer, K prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from ccc_w2v.errors import InputError
from ccc_w2v.losses.sinkhorn import all_reduced, sinkhorn
from ccc_w2v.losses.trained_apart import TrainedApart

SHORTEST = 1e-7  # a vector of less than this length is not made a unit vector
BETAS, EPSILON, WEIGHT_DECAY = (0.9, 0.95), 1e-8, 0.01  # the original's AdamW; it leaves the decay at torch's default


@dataclass(frozen=True)
class Balance:
    """How points are shared among prototypes: Sinkhorn's iterations, temperatures of the target and the prediction."""

    iterations: int = 3
    target_temperature: float = 0.06
    temperature: float = 0.12


class Clustered(NamedTuple):
    """The soft clusters of points and the head's loss of each point."""

    assigned: torch.Tensor  # (..., N, K), without gradient
    loss: torch.Tensor  # (..., N), nats, with the gradient of the head


def cluster_points(points: torch.Tensor, weight_KE: torch.Tensor, bias_K: torch.Tensor, how: Balance) -> Clustered:
    """Assign points (..., N, E) to prototypes, those of the next-to-last axis balanced together.

    The head is linear on unit vectors. Its loss is the cross-entropy of its own softmax with the balanced assignments.
    Source: CAPI (arXiv 2502.08769), the authors' code.
    """
    with torch.autocast(points.device.type, enabled=False):
        logits = F.linear(F.normalize(points.float(), dim=-1, eps=SHORTEST), weight_KE, bias_K)
        assigned = sinkhorn(logits.detach() / how.target_temperature, how.iterations)
        return Clustered(assigned, soft_cross_entropy(logits / how.temperature, assigned))


def soft_cross_entropy(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy (...) of scores (..., K) with soft targets (..., K), nats."""
    return -(targets * F.log_softmax(scores.float(), dim=-1)).sum(dim=-1)


class ClusterHead(TrainedApart):
    """Weight, bias and AdamW of the online clustering."""

    def __init__(self, width: int, prototypes: int, how: Balance, generator: torch.Generator):
        self.how = how
        super().__init__(
            {
                "weight": torch.empty(prototypes, width).normal_(generator=generator),
                "bias": torch.zeros(prototypes),
            },
            lambda parameters: torch.optim.AdamW(
                parameters, lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY
            ),
        )

    def _take(self, parameters: Mapping[str, torch.Tensor]) -> None:
        super()._take(parameters)
        self.weight_KE, self.bias_K = self.parameters["weight"], self.parameters["bias"]

    def assign(self, points_PE: torch.Tensor, *, learn: bool) -> Clustered:
        """Return the clusters of this process's points; with ``learn``, keep the gradient for the next step.

        The loss that is learned from is the mean over the points of all processes. Every process must call it.
        """
        self.to(points_PE.device)
        with torch.set_grad_enabled(learn):
            assigned, loss_P = cluster_points(points_PE.detach(), self.weight_KE, self.bias_K, self.how)
            if learn:
                count = all_reduced(torch.full((), float(len(points_PE)), device=points_PE.device))
                # Of all processes' points: the gradients that are summed over processes are one batch's.
                self.learn(loss_P.sum() / count.clamp_min(1))
        return Clustered(assigned, loss_P.detach())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what a checkpoint has kept; raises InputError for a head of another size."""
        if state["weight"].shape != self.weight_KE.shape:
            raise InputError(
                f"criterion.prototypes={len(self.weight_KE)}: the run that is resumed here has {len(state['weight'])} "
                f"of width {state['weight'].size(1)}; set that, or start another run in another folder"
            )
        super().load_state_dict(state)


class PredictionHead(torch.nn.Module):
    """The student's head: cosines with K directions, each with a length of its own (a weight-normed linear layer)."""

    def __init__(self, width: int, prototypes: int, generator: torch.Generator):
        super().__init__()
        direction_KE = torch.nn.init.trunc_normal_(torch.empty(prototypes, width), std=0.02, generator=generator)
        self.direction_KE = torch.nn.Parameter(direction_KE)
        self.length_K1 = torch.nn.Parameter(torch.ones(prototypes, 1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the scores (..., K) of hidden vectors (..., E) in fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            direction_KE, length_K1 = self.direction_KE.float(), self.length_K1.float()
            weight_KE = direction_KE * (length_K1 / (direction_KE.norm(dim=1, keepdim=True) + 1e-8))
            return F.linear(F.normalize(hidden.float(), dim=-1), weight_KE)
