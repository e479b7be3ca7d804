"""Which groups of codes lead to which: clusters of the graph of code transitions by the imbalance of their flows.

The graph has the codes of a codebook group as nodes and, from code to code, how often one follows the other. In a good
partition the flows between clusters go one way. Source: He, Reinert and Cucuringu, "DIGRAC: Digraph Clustering Based
on Flow Imbalance", LoG 2022 (arXiv 2106.05194); here the soft assignment itself is optimised, without their network.
Letters: N codes, K clusters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

NORMALIZATIONS = ("vol_sum", "vol_max", "vol_min", "plain")
SELECTIONS = ("sort", "std", "naive")
EPS = 1e-10


def transition_counts(sequences: Iterable[torch.Tensor], codes: int) -> torch.Tensor:
    """Count how often a code is followed by another in sequences (T,): (N, N), the diagonal 0, in float64."""
    counts_NN = torch.zeros(codes, codes, dtype=torch.float64)
    for codes_T in sequences:
        pairs = codes_T[:-1] * codes + codes_T[1:]
        counts_NN += torch.bincount(pairs, minlength=codes * codes).view(codes, codes)
    return counts_NN.fill_diagonal_(0)


def flows(weights_NN: torch.Tensor, assignment_NK: torch.Tensor) -> torch.Tensor:
    """Return the weight that goes from cluster to cluster, (K, K)."""
    return assignment_NK.T @ weights_NN @ assignment_NK


def imbalance_loss(
    weights_NN: torch.Tensor,
    assignment_NK: torch.Tensor,
    *,
    normalization: str = "vol_sum",
    selection: str = "sort",
    pairs: int = 3,
) -> torch.Tensor:
    """Return 1 minus the mean imbalance of the flows between pairs of clusters: 0 where all flow goes one way.

    ``selection``: "sort" takes the sum of the ``pairs`` largest, divided by ``pairs`` even where there are fewer; "std"
    the pairs whose net flow is more than 3 standard deviations of chance, else all; "naive" all. Unlike the authors'
    code, which this equals in value, each of them has its gradient.
    """
    flow_KK = flows(weights_NN, assignment_NK)
    volume_K = assignment_NK.T @ (weights_NN.sum(dim=0) + weights_NN.sum(dim=1))
    upper = torch.triu(torch.ones_like(flow_KK, dtype=torch.bool), diagonal=1) & (flow_KK != flow_KK.T)
    first, second = upper.nonzero(as_tuple=True)
    if not len(first):
        return 1 - 0 * flow_KK.sum()
    net, both = (flow_KK - flow_KK.T)[first, second], (flow_KK + flow_KK.T)[first, second]
    values = _normalized(net.abs(), both, volume_K, first, second, normalization)
    if selection == "sort":
        return 1 - values.topk(min(pairs, len(values))).values.sum() / pairs
    if selection == "std":
        significant = net.square() > 9 * both
        values = values[significant] if significant.any() else values
    elif selection != "naive":
        raise ValueError(f"unknown selection {selection!r}; available: {', '.join(SELECTIONS)}")
    return 1 - values.mean()


def _normalized(
    net: torch.Tensor,
    both: torch.Tensor,
    volume_K: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    normalization: str,
) -> torch.Tensor:
    volumes = volume_K[first], volume_K[second]
    if normalization == "vol_sum":
        return 2 * net / (volumes[0] + volumes[1] + EPS)
    if normalization == "vol_max":
        return net / (torch.maximum(*volumes) + EPS)
    if normalization == "vol_min":
        return net / both * torch.minimum(*volumes) / (volume_K.topk(2).values[1] + EPS)
    if normalization == "plain":
        return net / (both + EPS)
    raise ValueError(f"unknown normalization {normalization!r}; available: {', '.join(NORMALIZATIONS)}")


@dataclass(frozen=True)
class FlowClusters:
    """A partition of codes: the cluster of each code (N,), the flows (K, K), the loss of the hard partition."""

    labels_N: torch.Tensor
    flow_KK: torch.Tensor
    loss: float


def cluster_by_flow(
    weights_NN: torch.Tensor, clusters: int, generator: torch.Generator, *, restarts: int = 10, steps: int = 300
) -> FlowClusters:
    """Find K clusters with the most one-sided flows between them; the best of some restarts, in the order of the flow.

    All pairs of clusters count alike. Codes without transitions fall into the cluster that their start has drawn.
    """
    pairs = max(1, clusters * (clusters - 1) // 2)
    best: tuple[float, torch.Tensor] | None = None
    for _ in range(restarts):
        logits_NK = torch.randn(len(weights_NN), clusters, dtype=weights_NN.dtype, generator=generator)
        logits_NK.requires_grad_()
        optimizer = torch.optim.Adam([logits_NK], lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            imbalance_loss(weights_NN, logits_NK.softmax(dim=1), pairs=pairs).backward()
            optimizer.step()
        labels_N = logits_NK.detach().argmax(dim=1)
        loss = float(imbalance_loss(weights_NN, _one_hot(labels_N, clusters, weights_NN), pairs=pairs))
        if best is None or loss < best[0]:
            best = loss, labels_N
    assert best is not None, "there is at least one restart"
    return _in_order(weights_NN, best[1], clusters, best[0])


def _one_hot(labels_N: torch.Tensor, clusters: int, like: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels_N, clusters).to(like.dtype)


def _in_order(weights_NN: torch.Tensor, labels_N: torch.Tensor, clusters: int, loss: float) -> FlowClusters:
    """Sort the clusters by what they send on net, so that the flow goes from low to high numbers where it can."""
    flow_KK = flows(weights_NN, _one_hot(labels_N, clusters, weights_NN))
    rank_K = (flow_KK - flow_KK.T).sum(dim=1).argsort(descending=True, stable=True).argsort()
    labels_N = rank_K[labels_N]
    return FlowClusters(labels_N, flows(weights_NN, _one_hot(labels_N, clusters, weights_NN)), loss)
