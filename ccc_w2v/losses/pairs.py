"""The loss of deep constrained clustering: pairs of points of the same or another class, and a volume.

Source: Nguyen, Ibrahim and Fu, "Deep Clustering with Incomplete Noisy Pairwise Annotations: A Geometric Regularization
Approach", ICML 2023 (arXiv 2305.19391), and the authors' code. Letters: N points or pairs, K clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

CLAMP = 1e-6  # the original's: a probability of 0 or less, or of 1 or more, is moved inside by so much


class Pairs(NamedTuple):
    """Places of the points of N pairs, whether both are of one class, and whether a pair counts."""

    first_N: torch.Tensor
    second_N: torch.Tensor
    same_N: torch.Tensor
    counts_N: torch.Tensor


def link_probability(first_NK: torch.Tensor, second_NK: torch.Tensor, confusion_KK: torch.Tensor) -> torch.Tensor:
    """Return how probably a pair is called the same, (N): memberships c^T B c', with the annotator's confusion B."""
    return torch.einsum("nk,kl,nl->n", first_NK, confusion_KK, second_NK)


def pair_loss(link_N: torch.Tensor, same_N: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the link probabilities with what the annotator said, (N), nats.

    As in the original, a probability that is clamped has no gradient: a pair that is certain and wrong teaches nothing.
    """
    inside_N = torch.where(link_N >= 1, 1 - CLAMP, torch.where(link_N <= 0, CLAMP, link_N))
    return -torch.where(same_N.bool(), inside_N.log(), (1 - inside_N).log())


def log_volume(gram_KK: torch.Tensor, floor: float = 0.0) -> torch.Tensor:
    """Return log det(F^T F + floor I) of the memberships F (N, K), from their Gram matrix F^T F.

    It is largest where points belong to one cluster each and to all clusters alike. The original has no floor, and is
    minus infinity where a cluster is unused or two are the same.
    """
    # slogdet takes no half precision, which the product may have under autocast.
    wide_KK = gram_KK if gram_KK.dtype == torch.float64 else gram_KK.float()
    return torch.linalg.slogdet(wide_KK + floor * torch.eye(len(wide_KK)).to(wide_KK)).logabsdet


@torch.no_grad()
def draw_pairs(classes_N: torch.Tensor, uniform_2P: torch.Tensor) -> Pairs:
    """Draw P pairs among the points that have a class (0 or more; others -1) from numbers between 0 and 1.

    Nothing waits for the device: how many points have a class is not asked. Where there are fewer than two, and where
    both places are the same, a pair does not count.
    """
    has_class_N = classes_N >= 0
    # Those with a class first, in their order.
    order_N = torch.sort(~has_class_N, stable=True).indices
    known = has_class_N.sum()
    places_2P = order_N[(uniform_2P * known).long().minimum((known - 1).clamp_min(0))]
    first_P, second_P = places_2P.unbind(0)
    counts_P = (first_P != second_P) & (known > 1)
    return Pairs(first_P, second_P, classes_N[first_P] == classes_N[second_P], counts_P)
