"""Scope `annotated`: clusters of targets that a small network learns from pairs of frames with aligned transcripts.

Letters: P points (targets of masked frames, of both views), D width, H hidden units, K clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ccc_w2v.data.masking import frames_of_mask
from ccc_w2v.errors import InputError
from ccc_w2v.losses.pairs import draw_pairs, link_probability, log_volume, pair_loss
from ccc_w2v.losses.signals import Signal, joined, mean_signal
from ccc_w2v.losses.sinkhorn import all_reduced
from ccc_w2v.losses.trained_apart import TrainedApart

# Of the mean outer product of memberships: keeps the volume finite where a cluster is unused or two are the same.
VOLUME_FLOOR = 1e-6
SAME, OTHER = 1.0, -1.0  # logits that the confusion begins with, on and off the diagonal; the original's


@dataclass(frozen=True)
class MembershipSettings:
    """Sizes and weights: clusters K, hidden units H, pairs drawn per batch, weight of the volume, learning rate.

    For the first ``start`` steps the clusters are not to be used.
    """

    clusters: int
    hidden: int
    pairs: int
    volume: float
    lr: float
    start: int


class Membership(TrainedApart):
    """Two layers (ReLU, softmax) on unit vectors, and a confusion of clusters, with Adam.

    The network's memberships are those that explain which pairs of frames the alignments call the same; the confusion B
    takes up their errors. Source: arXiv 2305.19391; see losses/pairs.py.
    """

    def __init__(self, width: int, settings: MembershipSettings, generator: torch.Generator):
        self.settings = settings
        self.steps = 0
        hidden, clusters = settings.hidden, settings.clusters
        super().__init__(
            {
                "hidden_HD": _uniform((hidden, width), width, generator),
                "hidden_bias_H": _uniform((hidden,), width, generator),
                "output_KH": _uniform((clusters, hidden), hidden, generator),
                "output_bias_K": _uniform((clusters,), hidden, generator),
                "confusion_KK": OTHER + (SAME - OTHER) * torch.eye(clusters),
            },
            lambda parameters: torch.optim.Adam(parameters, lr=settings.lr),
        )

    @property
    def ready(self) -> bool:
        """Whether the clusters may be used."""
        return self.steps >= self.settings.start

    def memberships(self, points: torch.Tensor) -> torch.Tensor:
        """Return the memberships (..., K) of points (..., D), which add up to 1."""
        self.to(points.device)
        with torch.autocast(points.device.type, enabled=False):
            unit = F.normalize(points.detach().float(), dim=-1)
            return memberships(unit, self.parameters)

    @torch.no_grad()
    def labels(self, points: torch.Tensor) -> torch.Tensor:
        """Return the likeliest cluster of points (..., D): (...)."""
        return self.memberships(points).argmax(dim=-1)

    def observe(
        self, points_PD: torch.Tensor, classes_P: torch.Tensor, generator: torch.Generator, *, counts: bool
    ) -> dict[str, torch.Tensor]:
        """Keep the gradient of a batch for the next step; return signals. Every process must call it.

        ``classes_P`` are aligned labels, -1 where there is none. The loss is the mean over the counted pairs of all
        processes, less the weighted log volume of the points of all of them. Of a batch that does not count (noise, or
        a copy) nothing is learned.
        """
        uniform_2P = torch.rand(2, self.settings.pairs, generator=generator).to(points_PD.device)
        if not counts:
            classes_P = torch.full_like(classes_P, -1)
        with torch.enable_grad():
            member_PK = self.memberships(points_PD)
            pairs = draw_pairs(classes_P, uniform_2P)
            confusion_KK = torch.sigmoid(self.parameters["confusion_KK"])
            link_P = link_probability(member_PK[pairs.first_N], member_PK[pairs.second_N], confusion_KK)
            loss_P = pair_loss(link_P, pairs.same_N) * pairs.counts_N
            number = all_reduced(pairs.counts_N.float().sum())
            volume = log_volume(_mean_outer(member_PK, counts=counts), VOLUME_FLOOR)
            self.learn(loss_P.sum() / number.clamp_min(1) - self.settings.volume * volume)
        member_PK, link_P = member_PK.detach(), link_P.detach()
        mean_K = member_PK.mean(dim=0)
        measured = {
            "loss_pairs": _mean_of(loss_P / math.log(2), pairs.counts_N),
            "link_same": _mean_of(link_P, pairs.counts_N & pairs.same_N),
            "link_other": _mean_of(link_P, pairs.counts_N & ~pairs.same_N),
            "pairs_same": _mean_of(pairs.same_N.float(), pairs.counts_N),
            "membership_perplexity": mean_signal(torch.special.entr(mean_K).sum().exp()),
        }
        signals = joined(measured)
        return signals if counts else {name: torch.zeros_like(value) for name, value in signals.items()}

    def step(self, lr: float | None = None) -> None:
        """Make the step of an update, at the settings' learning rate; see TrainedApart.step."""
        if self._batches:
            self.steps += 1
        super().step(self.settings.lr if lr is None else lr)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what a checkpoint has kept; raises InputError for a network of another size."""
        for name, parameter in self.parameters.items():
            if state[name].shape != parameter.shape:
                clusters, hidden = state["output_KH"].shape
                raise InputError(
                    f"criterion.annotated_clusters={self.settings.clusters} and annotated_hidden="
                    f"{self.settings.hidden}: the run that is resumed here has {clusters} and {hidden}, for targets of "
                    f"width {state['hidden_HD'].size(1)}; set these, or start another run in another folder"
                )
        super().load_state_dict(state)
        self.steps = state["steps"]


def memberships(points: torch.Tensor, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the softmax (..., K) of a network of two layers on points (..., D)."""
    hidden = F.relu(F.linear(points, parameters["hidden_HD"], parameters["hidden_bias_H"]))
    return F.linear(hidden, parameters["output_KH"], parameters["output_bias_K"]).softmax(dim=-1)


def masked_classes(classes_BT: torch.Tensor, mask_BT: torch.Tensor, frames: int) -> torch.Tensor:
    """Return the classes of the M masked frames of each utterance, (B, M), in their order, without asking the device.

    ``classes_BT`` may have a frame more or less than the mask; one that it lacks has none (-1).
    """
    width = mask_BT.size(1)
    classes_BT = F.pad(classes_BT, (0, max(width - classes_BT.size(1), 0)), value=-1)[:, :width]
    return classes_BT.gather(1, frames_of_mask(mask_BT, frames))


def _mean_outer(member_PK: torch.Tensor, *, counts: bool) -> torch.Tensor:
    """Return F^T F / P over the points of all processes, (K, K), with the gradient of this process's."""
    gram_KK = member_PK.T @ member_PK * float(counts)
    total = all_reduced(torch.full((), float(len(member_PK) if counts else 0), device=member_PK.device))
    # All processes' values with this one's gradient: the gradients of all are added in the step.
    everywhere_KK = gram_KK + (all_reduced(gram_KK.detach().clone()) - gram_KK.detach())
    return everywhere_KK / total.clamp_min(1)


def _mean_of(values_P: torch.Tensor, counts_P: torch.Tensor) -> Signal:
    """Return the sum and the number of the values that count, as mean_signal does of all."""
    return Signal((values_P.detach() * counts_P).sum(), counts_P.sum())


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> torch.Tensor:
    """Draw what torch.nn.Linear begins with."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
