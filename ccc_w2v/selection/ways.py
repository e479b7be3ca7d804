"""The ways of choosing hours: each returns the weights of the chosen utterances, 0 for the others.

Letters: N utterances, K clusters.
"""

from __future__ import annotations

import torch

from ccc_w2v.errors import InputError
from ccc_w2v.selection.sensitivity import draw_weights

WAYS = ("sensitivity", "diverse", "longest", "random")
BLOCK = 4096  # draws at once
MOST_DRAWS = 1000  # per utterance, before the sampling is given up


def by_probability(
    probability_N: torch.Tensor, samples_N: torch.Tensor, budget: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw with replacement until the next new utterance would exceed the budget [samples]; return the weights (N).

    Raises InputError where utterances of hardly any probability would be needed to fill the budget.
    """
    times_N = torch.zeros(len(probability_N), dtype=torch.long)
    taken = 0
    for _ in range(0, MOST_DRAWS * len(probability_N), BLOCK):
        for place in torch.multinomial(probability_N, BLOCK, replacement=True, generator=generator).tolist():
            if not times_N[place]:
                taken += int(samples_N[place])
                if taken > budget:
                    return draw_weights(times_N, probability_N)
            times_N[place] += 1
        if taken == budget:
            return draw_weights(times_N, probability_N)
    raise InputError(
        f"{MOST_DRAWS * len(probability_N):,} draws do not fill --hours: the sensitivities of the rest are next to "
        "nothing; ask for fewer hours, or choose --by longest or random"
    )


def at_random(samples_N: torch.Tensor, budget: int, generator: torch.Generator) -> torch.Tensor:
    """Take utterances in a random order while they fit; weights estimate sums over all N."""
    order_N = torch.randperm(len(samples_N), generator=generator)
    return _weighted_alike(_fitting(order_N, samples_N, budget))


def longest(samples_N: torch.Tensor, budget: int) -> torch.Tensor:
    """Take the longest utterances while they fit, of equally long ones the first; all weights are 1."""
    order_N = torch.sort(samples_N, descending=True, stable=True).indices
    return _fitting(order_N, samples_N, budget).double()


def spread_over_clusters(
    labels_N: torch.Tensor, samples_N: torch.Tensor, budget: int, generator: torch.Generator
) -> torch.Tensor:
    """Take about as much audio of each cluster: again and again a random utterance of the one with least so far.

    Weights estimate sums over the utterances of all clusters of which any was taken. Every order of clusters with
    nothing taken so far is as probable.
    """
    clusters = int(labels_N.max()) + 1
    shuffled_N = torch.randperm(len(labels_N), generator=generator)
    # In the shuffled order an utterance's place in time is the audio that its cluster has given before it.
    order_N = torch.empty(len(labels_N), dtype=torch.double)
    for cluster in range(clusters):
        members = shuffled_N[labels_N[shuffled_N] == cluster]
        order_N[members] = (samples_N[members].cumsum(0) - samples_N[members]).double()
    rank_N = torch.empty_like(order_N)
    rank_N[shuffled_N] = torch.arange(len(order_N)).double()
    by_rank = torch.sort(rank_N).indices
    chosen_N = _fitting(by_rank[torch.sort(order_N[by_rank], stable=True).indices], samples_N, budget)
    weights_N = torch.zeros(len(labels_N), dtype=torch.double)
    for cluster in range(clusters):
        of_cluster = labels_N == cluster
        weights_N[of_cluster] = _weighted_alike(chosen_N[of_cluster])
    return weights_N


def _fitting(order_N: torch.Tensor, samples_N: torch.Tensor, budget: int) -> torch.Tensor:
    """Tell which utterances are taken in an order, until the first that does not fit."""
    fits = samples_N[order_N].cumsum(0) <= budget
    chosen_N = torch.zeros(len(samples_N), dtype=torch.bool)
    chosen_N[order_N[fits]] = True
    return chosen_N


def _weighted_alike(chosen_N: torch.Tensor) -> torch.Tensor:
    return chosen_N.double() * len(chosen_N) / max(int(chosen_N.sum()), 1)
