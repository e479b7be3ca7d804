"""The targets of both views clustered together: in one problem, in one for each utterance, or by centroids at hand.

Letters: V = 2 views, B utterances, M masked frames of each, D width, U clustering problems, P points of each, K
clusters, R starts.
"""

from __future__ import annotations

import torch

from ccc_w2v.losses.kmeans import cluster_count, cosine_kmeans, draw_starts, nearest


def cluster_views(
    target_VBMD: torch.Tensor,
    starts_URK: torch.Tensor | int,
    iterations: int,
    cluster_factor: int,
    generator: torch.Generator,
    *,
    apart: bool,
) -> tuple[torch.Tensor, int]:
    """Return the cluster of each target (V, B, M), and K; ``apart`` makes a problem of each utterance.

    ``starts_URK`` are indices of points to start from (see cosine_kmeans), the first view's before the second's, or
    how many starts to draw.
    """
    views, utterances, frames, width = target_VBMD.shape
    # Apart: (V, B, M, D) -> (B, V, M, D) -> (B, V x M, D), so that a problem holds both views of its utterance.
    points_UPD = target_VBMD.transpose(0, 1).flatten(1, 2) if apart else target_VBMD.view(1, -1, width)
    if isinstance(starts_URK, int):
        clusters = cluster_count(frames, cluster_factor)
        starts_URK = draw_starts(points_UPD, clusters, starts_URK, generator)
    labels_UP = cosine_kmeans(points_UPD, starts_URK, iterations)
    if apart:
        return labels_UP.view(utterances, views, frames).transpose(0, 1), starts_URK.size(-1)
    return labels_UP.view(views, utterances, frames), starts_URK.size(-1)


def label_views(target_VBMD: torch.Tensor, centroids_KD: torch.Tensor) -> torch.Tensor:
    """Return the nearest of some centroids for each target: labels (V, B, M)."""
    points_UPD = target_VBMD.float().view(1, -1, target_VBMD.size(-1))
    return nearest(points_UPD, centroids_KD.unsqueeze(0)).view(target_VBMD.shape[:-1])
