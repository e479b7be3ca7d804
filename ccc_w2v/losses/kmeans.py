"""Cosine k-means with seeded starts and a fixed amount of work; runs in the training step on CPU or GPU.

Letters: U independent problems, P points of each, D width, K clusters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cluster_count(masked_frames: int, cluster_factor: int) -> int:
    """Return K = max(2, M // cluster_factor): the factor is masked frames per cluster (METHOD.md section 3)."""
    return max(2, masked_frames // cluster_factor)


def draw_starts(problems: int, points: int, clusters: int, generator: torch.Generator) -> torch.Tensor:
    """Draw K different starting points for each problem: indices (U, K), on the CPU."""
    weights = torch.ones(problems, points)
    return torch.multinomial(weights, min(clusters, points), replacement=False, generator=generator)


@torch.no_grad()
def cosine_kmeans(points_UPD: torch.Tensor, starts_UK: torch.Tensor, iterations: int) -> torch.Tensor:
    """Cluster by cosine similarity with Lloyd's iterations; returns labels (U, P).

    ``starts_UK`` are the indices of the points that the centroids start from. The number of iterations is fixed, so
    nothing waits for the device to tell whether it has converged; iterating a converged clustering changes nothing.
    A cluster that loses its points gets the zero vector for its centroid and so takes only points that are dissimilar
    (negative cosine) to every other centroid.
    """
    points_UPD = F.normalize(points_UPD.float(), dim=-1)
    centroids_UKD = torch.take_along_dim(points_UPD, starts_UK.to(points_UPD.device).unsqueeze(-1), dim=1)
    clusters = torch.arange(starts_UK.size(1), device=points_UPD.device)
    for _ in range(iterations):
        labels_UP = _nearest(points_UPD, centroids_UKD)
        # A product with the one-hot labels, not index_add: its order of summation is fixed on a GPU too.
        members_UKP = (clusters[:, None] == labels_UP[:, None, :]).to(points_UPD.dtype)
        # The mean and the sum have one direction, and only the direction of a centroid counts.
        centroids_UKD = F.normalize(torch.bmm(members_UKP, points_UPD), dim=-1)
    return _nearest(points_UPD, centroids_UKD)


def _nearest(points_UPD: torch.Tensor, centroids_UKD: torch.Tensor) -> torch.Tensor:
    return torch.bmm(points_UPD, centroids_UKD.transpose(1, 2)).argmax(dim=-1)
