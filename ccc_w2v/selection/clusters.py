"""Clusters of utterances by their mean hidden state: what `ccc-w2v features --mean` wrote, and faiss k-means of it.

Letters: N utterances, L layers, D width, K clusters.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256
from ccc_w2v.losses.bank import load_faiss
from ccc_w2v.probe.features import read_shard

ITERATIONS = 20
UTTERANCES_PER_CLUSTER = 40  # faiss calls fewer than 39 too few
MOST_CLUSTERS = 500


@dataclass(frozen=True)
class Clusters:
    """Utterances around centres, each of which is an utterance itself.

    ``labels_N`` are 0 to K - 1, and every cluster has members; ``centre_K`` are places of utterances; ``distance_N`` is
    Euclidean, between the embeddings of an utterance and of its centre.
    """

    labels_N: torch.Tensor
    centre_K: torch.Tensor
    distance_N: torch.Tensor

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return len(self.centre_K)


def read_embeddings(folder: Path, manifest: Manifest, layer: int | None) -> torch.Tensor:
    """Return an embedding of each utterance, (N, D), of unit variance: means over the frames of a layer.

    Frames are averaged where the folder holds frames. Raises InputError for a folder that is none of `ccc-w2v features`
    or unfinished, one of another manifest, and a layer that it does not hold.
    """
    settings, index = folder / "settings.json", folder / "index.tsv"
    if not settings.is_file() or not index.is_file():
        raise InputError(f"{folder}: no features of ccc-w2v features, or unfinished; run it with --mean first")
    recorded = json.loads(settings.read_text(encoding="utf-8"))
    if recorded.get("manifest") != sha256(manifest.source):
        raise InputError(f"{folder}: features of another manifest than {manifest.source}; extract them of this one")
    layers = recorded["layers"]
    if layer is None and len(layers) > 1:
        raise InputError(f"{folder}: holds layers {', '.join(map(str, layers))}; choose one with --layer")
    if layer is not None and layer not in layers:
        raise InputError(f"--layer {layer}: {folder} holds layers {', '.join(map(str, layers))}")
    column = 0 if layer is None else layers.index(layer)
    rows_of: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for line in index.read_text(encoding="utf-8").splitlines()[1:]:
        utterance, shard, first, rows, *_ = line.split("\t")
        rows_of[shard].append((utterance, int(first), int(rows)))
    means = {}
    for shard, members in rows_of.items():
        features_RLD = read_shard(folder, shard, recorded["format"])["features"]
        for utterance, start, length in members:
            means[utterance] = features_RLD[start : start + length, column].astype(np.float32).mean(axis=0)
    values_ND = torch.from_numpy(np.stack([means[utterance] for utterance in utterance_ids(manifest)]))
    if not values_ND.isfinite().all():
        raise InputError(f"{folder}: holds features that are not finite; the network's training has diverged")
    return F.layer_norm(values_ND, values_ND.shape[-1:])


def cluster_utterances(values_ND: torch.Tensor, clusters: int, seed: int) -> Clusters:
    """Cluster embeddings with faiss's k-means; each cluster's centre is the utterance nearest to its mean.

    There must be as many utterances as clusters or more.
    """
    values = values_ND.numpy()
    kmeans = load_faiss().Kmeans(
        values_ND.size(1), clusters, niter=ITERATIONS, seed=seed % 2**31, min_points_per_centroid=1
    )
    kmeans.train(values)
    squared, nearest = kmeans.index.search(values, 1)
    # A cluster that lost all its utterances is left out, the others are numbered in their order.
    labels = np.unique(nearest[:, 0], return_inverse=True)[1]
    centres = np.array([_nearest_member(labels == label, squared[:, 0]) for label in range(labels.max() + 1)])
    labels_N, centre_K = torch.from_numpy(labels), torch.from_numpy(centres)
    return Clusters(labels_N, centre_K, (values_ND - values_ND[centre_K[labels_N]]).norm(dim=1))


def _nearest_member(member_N: np.ndarray, squared_N: np.ndarray) -> int:
    return int(np.where(member_N, squared_N, np.inf).argmin())


def cluster_number(utterances: int) -> int:
    """Return how many clusters are made unless the user says: one for every 40 utterances, 2 to 500."""
    return max(2, min(utterances // UTTERANCES_PER_CLUSTER, MOST_CLUSTERS))
