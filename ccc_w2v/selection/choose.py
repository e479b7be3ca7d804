"""Choosing hours of a manifest: from its lengths, or from its embeddings, clusters and losses, to weights.

Letters: N utterances, K clusters, P probed utterances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.selection import ways
from ccc_w2v.selection.clusters import Clusters
from ccc_w2v.selection.sensitivity import holder_constant, probabilities, sensitivities

PROBES = 100  # utterances whose losses the constant of the sensitivities is estimated from, at most
# Returns the losses of utterances at some places of the manifest.
Losses = Callable[[Sequence[int]], dict[int, float]]


@dataclass(frozen=True)
class Wish:
    """What is wanted: hours at a sample rate [Hz], and the way. ``holder`` None: estimated; ``power`` z, 1 or 2."""

    hours: float
    by: str
    sample_rate: int
    seed: int
    holder: float | None = None
    power: int = 2


@dataclass(frozen=True)
class Chosen:
    """The weight of each utterance (N), 0 where it was not chosen, and by sensitivity the constant and losses used."""

    weights_N: torch.Tensor
    holder: float | None = None
    centre_loss_K: torch.Tensor | None = None

    @property
    def places(self) -> list[int]:
        """Places of the chosen utterances in the manifest, in its order."""
        return self.weights_N.nonzero().flatten().tolist()


def budget_of(manifest: Manifest, wish: Wish) -> int:
    """Return the wanted hours in samples; raises InputError where the manifest has no more than that."""
    total = sum(entry.samples for entry in manifest.entries)
    budget = round(wish.hours * 3600 * wish.sample_rate)
    if budget >= total:
        hours = total / wish.sample_rate / 3600
        raise InputError(f"--hours {wish.hours:g}: {manifest.source} has {hours:.3f} h, so that all of it is chosen")
    return budget


def choose(manifest: Manifest, wish: Wish, clusters: Clusters | None, losses: Losses | None) -> Chosen:
    """Choose utterances of no more than the wanted hours; ``clusters`` and ``losses`` where the way needs them.

    Raises InputError as budget_of does, and for hours that no utterance fits into.
    """
    samples_N = torch.tensor([entry.samples for entry in manifest.entries])
    budget = budget_of(manifest, wish)
    generator = generator_for(wish.seed, f"select_{wish.by}")
    chosen = None
    if wish.by == "longest":
        chosen = Chosen(ways.longest(samples_N, budget))
    elif wish.by == "random":
        chosen = Chosen(ways.at_random(samples_N, budget, generator))
    elif wish.by == "diverse":
        assert clusters is not None
        chosen = Chosen(ways.spread_over_clusters(clusters.labels_N, samples_N, budget, generator))
    else:
        assert clusters is not None
        assert losses is not None
        chosen = _by_sensitivity(samples_N, budget, wish, clusters, losses, generator)
    if not chosen.places:
        raise InputError(f"--hours {wish.hours:g}: shorter than the first utterance that would be taken; ask for more")
    return chosen


def _by_sensitivity(
    samples_N: torch.Tensor,
    budget: int,
    wish: Wish,
    clusters: Clusters,
    losses: Losses,
    generator: torch.Generator,
) -> Chosen:
    centres, labels_N = clusters.centre_K.tolist(), clusters.labels_N
    probed: list[int] = []
    if wish.holder is None:
        shuffled = torch.randperm(len(labels_N), generator=generator_for(wish.seed, "select_probes")).tolist()
        at_centres = set(centres)
        probed = [place for place in shuffled if place not in at_centres][:PROBES]
    loss_of = losses([*centres, *probed])
    centre_loss_K = torch.tensor([loss_of[place] for place in centres], dtype=torch.float64)
    distance_N = clusters.distance_N.double()
    holder = wish.holder
    if holder is None:
        loss_P = torch.tensor([loss_of[place] for place in probed], dtype=torch.float64)
        holder = holder_constant(loss_P, centre_loss_K[labels_N[probed]], distance_N[probed], wish.power)
    probability_N = probabilities(sensitivities(centre_loss_K, labels_N, distance_N, holder, wish.power))
    return Chosen(ways.by_probability(probability_N, samples_N, budget, generator), holder, centre_loss_K)
