"""Scope `global`: a bank of the latest targets of all processes, clustered by faiss now and then.

A batch holds a few minutes of speech; the bank remembers more of it, so that K can be large enough for units of the
size of phones. Bank and centroids are the same on every process. They live in a dictionary of tensors and numbers that
the owner keeps (the task's checkpoint state), so that a resumed run has the same clusters. Letters: P points
of a batch, D width, K clusters.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
import torch.nn.functional as F

from ccc_w2v.errors import InputError

# faiss calls fewer points than this for each centroid too few to train on.
POINTS_PER_CENTROID = 39


def empty_bank() -> dict[str, Any]:
    """Return the state of a bank that has seen nothing; holds tensors and plain numbers only."""
    return {"points": None, "filled": 0, "next": 0, "centroids": None, "fitted_at": -1}


@dataclass(frozen=True)
class TargetBank:
    """How a bank is filled and clustered; ``state`` (see empty_bank) is changed in place.

    ``size`` points are kept, of which each process adds ``points_per_batch`` per batch; they are clustered into
    ``clusters`` every ``refit_every`` updates, for the first time as soon as there are 39 points for each cluster.
    """

    state: dict[str, Any]
    size: int
    points_per_batch: int
    clusters: int
    refit_every: int
    seed: int

    def __post_init__(self) -> None:
        """Raise InputError where the state, from a checkpoint, is that of a bank of another size."""
        kept = {
            "bank_size": (self.state["points"], self.size),
            "bank_clusters": (self.state["centroids"], self.clusters),
        }
        for name, (rows, wanted) in kept.items():
            if rows is not None and len(rows) != wanted:
                raise InputError(
                    f"criterion.{name}={wanted}: the run that is resumed here has {len(rows)}; "
                    "set that, or start another run in another folder"
                )

    def add(self, points_PD: torch.Tensor, generator: torch.Generator) -> None:
        """Put some of each process's points, drawn with its generator, over the oldest; every process must call it.

        A point of zeros holds its place and is left out of the clustering.
        """
        drawn = torch.randint(len(points_PD), (self.points_per_batch,), generator=generator).to(points_PD.device)
        # An overflowing fp16 update may hold infinities, which faiss refuses: rows of zeros are passed over by refit.
        added = torch.nan_to_num(F.normalize(points_PD.detach().float()[drawn], dim=-1))
        if distributed.is_initialized() and distributed.get_world_size() > 1:
            gathered = [torch.empty_like(added) for _ in range(distributed.get_world_size())]
            distributed.all_gather(gathered, added)
            added = torch.cat(gathered)
        state, added = self.state, added[-self.size :]
        if state["points"] is None:
            state["points"] = added.new_zeros(self.size, added.size(1))
        state["points"] = state["points"].to(added.device)  # a checkpoint brings it back on the CPU
        # A ring: the oldest points are overwritten.
        state["points"][(torch.arange(len(added)) + state["next"]) % self.size] = added
        state["next"] = (state["next"] + len(added)) % self.size
        state["filled"] = min(state["filled"] + len(added), self.size)

    def refit(self, update: int) -> bool:
        """Cluster the bank anew if that is due before this update; tell whether it was; every process must call it."""
        state = self.state
        due = state["centroids"] is None or update - state["fitted_at"] >= self.refit_every
        if not due or state["filled"] < POINTS_PER_CENTROID * self.clusters:
            return False
        points = state["points"][: state["filled"]]
        points = points[points.any(dim=1)]
        if len(points) < POINTS_PER_CENTROID * self.clusters:
            return False
        alone = not distributed.is_initialized()
        if alone or distributed.get_rank() == 0:
            centroids = spherical_kmeans(points, self.clusters, self.seed + update)
        else:
            centroids = points.new_empty(self.clusters, points.size(1))
        if not alone:
            # The first process clusters for all: another CPU or GPU could round to other centroids.
            distributed.broadcast(centroids, 0)
        state.update(centroids=centroids, fitted_at=update)
        return True

    def centroids(self, device: torch.device) -> torch.Tensor | None:
        """Return the latest centroids (K, D), or None before the first clustering."""
        if self.state["centroids"] is not None:
            self.state["centroids"] = self.state["centroids"].to(device)
        return self.state["centroids"]


def require_faiss(asking: str = "criterion.cluster_scope=global") -> None:
    """Raise InputError where faiss is not installed; ``asking`` says what needs it."""
    if importlib.util.find_spec("faiss") is None:
        raise InputError(
            f"{asking} needs faiss, which is not installed; "
            "pip install faiss-cpu, or faiss-gpu on a machine with GPUs (never both: they share one name)"
        )


def load_faiss() -> Any:
    """Import faiss, without its telling of every build for another processor that it tried before the one it loads."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss


def spherical_kmeans(points_PD: torch.Tensor, clusters: int, seed: int, iterations: int = 20) -> torch.Tensor:
    """Cluster unit vectors with faiss, on its GPUs where it has any; returns unit centroids (K, D)."""
    faiss = load_faiss()
    on_gpu = faiss.get_num_gpus() > 0
    width = points_PD.size(1)
    kmeans = faiss.Kmeans(width, clusters, niter=iterations, spherical=True, seed=seed % 2**31, gpu=on_gpu)
    kmeans.train(points_PD.cpu().numpy())
    return torch.from_numpy(kmeans.centroids).to(points_PD)
