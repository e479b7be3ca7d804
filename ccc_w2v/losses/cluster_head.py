"""The online clustering of a teacher's frames: a linear head with an optimiser of its own.

Letters: P points (frames), E width of the Transformer, K prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from ccc_w2v.errors import InputError
from ccc_w2v.losses.sinkhorn import all_reduced, sinkhorn

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


class ClusterHead:
    """Weight, bias and AdamW of the online clustering; the same on every process, since all see the summed gradient.

    It is no torch module: the training's optimiser shall not see its parameters, nor the model's state dict hold them.
    """

    def __init__(self, width: int, prototypes: int, how: Balance, generator: torch.Generator):
        self.how = how
        self.weight_KE = torch.empty(prototypes, width).normal_(generator=generator).requires_grad_()
        self.bias_K = torch.zeros(prototypes).requires_grad_()
        self._start()

    def _start(self) -> None:
        parameters = [self.weight_KE, self.bias_K]
        self.optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY)
        self._summed = [torch.zeros_like(parameter) for parameter in parameters]
        self._batches = 0

    def to(self, device: torch.device) -> None:
        """Move the head to a device, if it is on another."""
        if self.weight_KE.device != device:
            state = self.state_dict()
            self.weight_KE, self.bias_K = (
                p.detach().to(device).requires_grad_() for p in (self.weight_KE, self.bias_K)
            )
            self._start()
            self.load_state_dict(state)

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
                mean = loss_P.sum() / count.clamp_min(1)
                for summed, gradient in zip(
                    self._summed, torch.autograd.grad(mean, [self.weight_KE, self.bias_K]), strict=True
                ):
                    summed += gradient
                self._batches += 1
        return Clustered(assigned, loss_P.detach())

    def forget(self) -> None:
        """Drop the gradients of the batches since the last step: a new update begins."""
        self._batches = 0
        for summed in self._summed:
            summed.zero_()

    def step(self, lr: float) -> None:
        """Make a step against the mean gradient of the batches since the last one; every process must call it."""
        if not self._batches:
            return
        for parameter, summed in zip((self.weight_KE, self.bias_K), self._summed, strict=True):
            parameter.grad = all_reduced(summed / self._batches)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.forget()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it: tensors and plain numbers."""
        return {
            "weight": self.weight_KE.detach(),
            "bias": self.bias_K.detach(),
            "optimizer": self.optimizer.state_dict()["state"],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what a checkpoint has kept; raises InputError for a head of another size."""
        if state["weight"].shape != self.weight_KE.shape:
            raise InputError(
                f"criterion.prototypes={len(self.weight_KE)}: the run that is resumed here has {len(state['weight'])} "
                f"of width {state['weight'].size(1)}; set that, or start another run in another folder"
            )
        with torch.no_grad():
            self.weight_KE.copy_(state["weight"])
            self.bias_K.copy_(state["bias"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})


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
