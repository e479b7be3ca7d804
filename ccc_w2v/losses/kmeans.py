"""Cosine k-means with seeded starts and a fixed amount of work; runs in the training step on CPU or GPU.

Nothing here waits for the device or makes a gradient graph. Letters: U independent problems, P points of each, D width,
K clusters, R starts (sets of K points to start from), of which the best is continued.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Parts of a whole in a fixed-point number of 64 bits: a sum of four million values of up to 2 fits.
FIXED_POINT = 2.0**40


def cluster_count(masked_frames: int, cluster_factor: int) -> int:
    """Return K = max(2, M // cluster_factor): the factor is masked frames per cluster (docs/method.md, section 3)."""
    return max(2, masked_frames // cluster_factor)


@torch.no_grad()
def draw_starts(points_UPD: torch.Tensor, clusters: int, restarts: int, generator: torch.Generator) -> torch.Tensor:
    """Draw R times K points of each problem to start from, by k-means++ on cosine distance: indices (U, R, K).

    Each next point is drawn with a probability in proportion to its distance from the nearest one drawn before. Where
    fewer than K points differ, some are drawn again. The generator lives on the CPU: the same seed draws the same
    numbers whatever the points' device. Source: Arthur and Vassilvitskii, "k-means++", SODA 2007.
    """
    points_UPD = F.normalize(points_UPD.float(), dim=-1)
    problems, points = points_UPD.shape[:2]
    uniform_URK = torch.rand(problems, restarts, min(clusters, points), generator=generator).to(points_UPD.device)
    latest_UR = (uniform_URK[..., 0] * points).long()
    starts = [latest_UR]
    # All distances in units of 1 / FIXED_POINT, a power of two, which changes no number and saves a product a round.
    scaled_UPD, zero = points_UPD * FIXED_POINT, points_UPD.new_zeros(())
    # Nothing is near yet: the first minimum is the distance from the first point.
    distance_URP = points_UPD.new_full((), torch.inf)
    for uniform_UR in uniform_URK.unbind(-1)[1:]:
        # gather, not take_along_dim, which starts a kernel more for indices below 0.
        latest_URD = scaled_UPD.gather(1, latest_UR.unsqueeze(-1).expand(-1, -1, points_UPD.size(-1)))
        to_latest_URP = FIXED_POINT - _product(latest_URD, points_UPD.transpose(1, 2))
        # The minimum with the distance so far; rounding leaves a point at about -1e-7 from itself.
        distance_URP = torch.clamp(to_latest_URP, min=zero, max=distance_URP)
        summed_URP = running_sum(distance_URP)
        # Inverse transform sampling: u x total falls into the interval of the point that is drawn.
        latest_UR = torch.searchsorted(summed_URP, uniform_UR.unsqueeze(-1) * summed_URP[..., -1:]).squeeze(-1)
        latest_UR = latest_UR.clamp_max(points - 1)
        starts.append(latest_UR)
    return torch.stack(starts, dim=-1)


@torch.no_grad()
def cosine_kmeans(points_UPD: torch.Tensor, starts_URK: torch.Tensor, iterations: int) -> torch.Tensor:
    """Cluster by cosine similarity with Lloyd's iterations; returns labels (U, P).

    ``starts_URK`` are the indices of the points that the centroids start from. Every one of R > 1 starts gets a third
    of the iterations, and the one whose points are then nearest to their centroids gets the rest: that costs less than
    R clusterings and ends nearly as low. The number of iterations is fixed, so that nothing waits for the device to
    tell whether it has converged; iterating a converged clustering changes nothing. A cluster that loses its points
    gets the zero vector for its centroid and so takes only points that are dissimilar (negative cosine) to all others.
    """
    points_UPD = F.normalize(points_UPD.float(), dim=-1)
    restarts, clusters = starts_URK.shape[1:]
    starts_UC = starts_URK.flatten(1).to(points_UPD.device)
    centroids_URKD = torch.take_along_dim(points_UPD, starts_UC.unsqueeze(-1), dim=1).unflatten(1, (restarts, clusters))
    clusters_K1 = torch.arange(clusters, device=points_UPD.device).unsqueeze(-1)
    if restarts > 1:
        first, iterations = iterations // 3, iterations - iterations // 3
        for _ in range(first):
            centroids_URKD = _lloyd(points_UPD, centroids_URKD, clusters_K1)
        # (U, R, K, P) -> each point's best cluster (U, R, P) -> its sum (U, R) -> the best start.
        best_U = _similarity(points_UPD, centroids_URKD).amax(dim=2).sum(dim=-1).argmax(dim=1)
        centroids_URKD = torch.take_along_dim(centroids_URKD, best_U.view(-1, 1, 1, 1), dim=1)
    for _ in range(iterations):
        centroids_URKD = _lloyd(points_UPD, centroids_URKD, clusters_K1)
    return nearest(points_UPD, centroids_URKD.squeeze(1))


def running_sum(values_URP: torch.Tensor) -> torch.Tensor:
    """Return the cumulative sums over the last dimension of values of 0 to 2 x FIXED_POINT, the same at each call.

    A GPU adds numbers in the order in which its threads come; whole numbers have one sum in any order.
    """
    return values_URP.long().cumsum(dim=-1).double() if values_URP.is_cuda else values_URP.cumsum(dim=-1)


def nearest(points_UPD: torch.Tensor, centroids_UKD: torch.Tensor) -> torch.Tensor:
    """Return the centroid of the highest cosine for each point: labels (U, P).

    Centroids have unit length or are zero; the length of a point makes no difference.
    """
    return _labels(_similarity(points_UPD, centroids_UKD.unsqueeze(1))).squeeze(1)


def _product(left_UAB: torch.Tensor, right_UBC: torch.Tensor) -> torch.Tensor:
    """Return the products (U, A, C), in the precision of their factors also under autocast.

    The distances of the starts are whole numbers of 2**-40, which float16 cannot hold.
    """
    with torch.autocast(left_UAB.device.type, enabled=False):
        return torch.bmm(left_UAB, right_UBC)


def _similarity(points_UPD: torch.Tensor, centroids_URKD: torch.Tensor) -> torch.Tensor:
    """Return every point's product with every centroid, (U, R, K, P)."""
    restarts, clusters = centroids_URKD.shape[1:3]
    flat_UCP = _product(centroids_URKD.flatten(1, 2), points_UPD.transpose(1, 2))
    return flat_UCP.unflatten(1, (restarts, clusters))


def _labels(similarity_URKP: torch.Tensor) -> torch.Tensor:
    # max, not argmax: five times as fast over this dimension on a CPU.
    return similarity_URKP.max(dim=2).indices


def _lloyd(points_UPD: torch.Tensor, centroids_URKD: torch.Tensor, clusters_K1: torch.Tensor) -> torch.Tensor:
    """Return the centroids of the points that are nearest to each of some centroids; ``clusters_K1`` is 0 to K - 1."""
    labels_URP = _labels(_similarity(points_UPD, centroids_URKD))
    # A product with the one-hot labels, not index_add: its order of summation is fixed on a GPU too.
    members_URKP = clusters_K1 == labels_URP.unsqueeze(2)
    sums_UCD = _product(members_URKP.flatten(1, 2).to(points_UPD.dtype), points_UPD)
    # The mean and the sum have one direction, and only the direction of a centroid counts.
    return F.normalize(sums_UCD, dim=-1).unflatten(1, members_URKP.shape[1:3])
