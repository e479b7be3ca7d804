"""`kmeans`: our clustering against fast-pytorch-kmeans (the original implementation's) and faiss."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
import torch.nn.functional as F
from fast_pytorch_kmeans import KMeans

from ccc_w2v.benchmark import measure
from ccc_w2v.losses.bank import spherical_kmeans
from ccc_w2v.losses.kmeans import cosine_kmeans, draw_starts, nearest
from ccc_w2v.settings.criterion import CccCriterionConfig

# Points and clusters: a batch of 6 crops of 15.6 s (2 views x 6 x 357 masked frames), and larger ones.
PROBLEMS = [(4280, 23), (17120, 23), (17120, 90)]
WIDTH = 256
OURS, FAST, FAISS = "ours", "fast-pytorch-kmeans", "faiss"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark kmeans`."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--seeds", type=int, default=20, help="sets of points and starts (default: 20)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure time and objective over seeds; return the ratios on the smallest problem's quantised targets."""
    device = torch.device(args.device)
    print(f"seconds are medians and distances are means over {args.seeds} seeds, on {measure.machine(device)}")
    print("distance: mean cosine distance of a point from the centroid of its cluster; lower is better")
    print(f"{'points':>16}{'P':>8}{'K':>5}" + "".join(f"{name:>30}" for name in (OURS, FAST, FAISS)))
    results = {}
    for count, clusters in PROBLEMS:
        for kind, make in (("quantised", quantised_points), ("Gaussian", gaussian_points)):
            seconds, distance = _measure(make, count, clusters, args.seeds, device)
            results[kind, count, clusters] = seconds, distance
            cells = (f"{statistics.median(seconds[name]):.4f} s, {distance[name]:.5f}" for name in (OURS, FAST, FAISS))
            print(f"{kind:>16}{count:8}{clusters:5}" + "".join(f"{cell:>30}" for cell in cells))
    first = ("quantised", *PROBLEMS[0])  # in the subscript, mypy on Python 3.10 takes the star for newer syntax
    seconds, distance = results[first]
    return {
        "time_ratio_vs_fast_pytorch_kmeans": round(measure.median_ratio(seconds[OURS], seconds[FAST]), 4),
        "objective_ratio": round(distance[OURS] / distance[FAST], 5),
    }


def quantised_points(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return points (P, D) like quantised targets: pairs of codes of 2 x 320, some used far more than others."""
    codebook = torch.randn(2, 320, WIDTH // 2, generator=generator)
    usage = torch.rand(2, 320, generator=generator) ** 8
    codes = [torch.multinomial(probabilities, count, replacement=True, generator=generator) for probabilities in usage]
    vectors = torch.cat([rows[code] for rows, code in zip(codebook, codes, strict=True)], dim=-1)
    return vectors @ torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5


def gaussian_points(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return points (P, D) from 40 Gaussian clouds that touch."""
    centres = torch.randn(40, WIDTH, generator=generator)
    own = torch.randint(40, (count,), generator=generator)
    return centres[own] + torch.randn(count, WIDTH, generator=generator)


def mean_distance(points_PD: torch.Tensor, labels_P: torch.Tensor, clusters: int) -> float:
    """Return the mean cosine distance of the points from the centroids of their clusters, whoever labelled them."""
    sums_KD = torch.zeros(clusters, points_PD.size(1), device=points_PD.device).index_add_(0, labels_P, points_PD)
    return 1 - (sums_KD.norm(dim=-1).sum() / len(points_PD)).item()


def _measure(
    make: Any, count: int, clusters: int, seeds: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, float]]:
    cfg = CccCriterionConfig()
    seconds: dict[str, list[float]] = {OURS: [], FAST: [], FAISS: []}
    distance = dict.fromkeys(seconds, 0.0)
    for seed in range(seeds):
        points_PD = F.normalize(make(count, torch.Generator().manual_seed(seed)).to(device), dim=-1)

        def ours(points_PD: torch.Tensor = points_PD, seed: int = seed) -> torch.Tensor:
            points_1PD = points_PD.unsqueeze(0)
            starts = draw_starts(points_1PD, clusters, cfg.kmeans_restarts, torch.Generator().manual_seed(seed))
            return cosine_kmeans(points_1PD, starts, cfg.kmeans_iterations)[0]

        def faiss(points_PD: torch.Tensor = points_PD, seed: int = seed) -> torch.Tensor:
            centroids = spherical_kmeans(points_PD, clusters, seed)
            return nearest(points_PD.unsqueeze(0), centroids.unsqueeze(0))[0]

        def fast(points_PD: torch.Tensor = points_PD) -> torch.Tensor:
            return KMeans(n_clusters=clusters, mode="cosine").fit_predict(points_PD)

        for name, function in ((OURS, ours), (FAST, fast), (FAISS, faiss)):
            with torch.random.fork_rng():
                torch.manual_seed(seed)  # fast-pytorch-kmeans draws its starts from a global generator
                labels: list[torch.Tensor] = []

                def keep(labels: list[torch.Tensor] = labels, function: Any = function) -> None:
                    labels.append(function())

                taken = measure.timed(keep, device)
            seconds[name].append(taken)
            distance[name] += mean_distance(points_PD, labels[0], clusters) / seeds
    return seconds, distance
