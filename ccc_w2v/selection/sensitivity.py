"""Clustering-based sensitivity sampling: how probable and how heavy each utterance of a sample is.

Source: Axiotis et al., "Data-Efficient Learning via Clustering-Based Sensitivity Sampling" (arXiv 2402.17327). There is
no code of the authors; numbers are held to closed forms and to an independent implementation of their Algorithm 1.
Letters: N utterances, K clusters.
"""

from __future__ import annotations

import torch


def sensitivities(
    centre_loss_K: torch.Tensor,
    labels_N: torch.Tensor,
    distance_N: torch.Tensor,
    holder: torch.Tensor | float,
    power: int,
) -> torch.Tensor:
    """Return an upper bound of each utterance's loss: its centre's, plus ``holder`` x distance to the centre ^ power.

    ``holder`` is the constant by which the loss is Hoelder continuous in the embeddings, a number or one for each
    cluster (K).
    """
    constant = holder[labels_N] if isinstance(holder, torch.Tensor) else holder
    return centre_loss_K[labels_N] + constant * distance_N**power


def probabilities(sensitivity_N: torch.Tensor) -> torch.Tensor:
    """Return the probability of each draw, (N), in proportion to the sensitivities; uniform where all are 0."""
    total = sensitivity_N.sum()
    return sensitivity_N / total if total > 0 else torch.full_like(sensitivity_N, 1 / len(sensitivity_N))


def draw_weights(times_N: torch.Tensor, probability_N: torch.Tensor) -> torch.Tensor:
    """Return the weight of each utterance that was drawn ``times_N`` times: times / (all draws x probability), else 0.

    The weighted sum of any quantity over the drawn utterances is an unbiased estimate of its sum over all N.
    """
    drawn_N = times_N > 0
    expected_N = times_N.sum() * probability_N
    return torch.where(drawn_N, times_N / torch.where(drawn_N, expected_N, torch.ones_like(expected_N)), 0.0)


def holder_constant(loss_P: torch.Tensor, centre_loss_P: torch.Tensor, distance_P: torch.Tensor, power: int) -> float:
    """Return the smallest constant that holds for some probed utterances: max of |loss - centre's| / distance ^ power.

    Utterances at their centre say nothing and are left out; 0 where none is left.
    """
    apart_P = distance_P > 0
    ratio_P = (loss_P - centre_loss_P).abs()[apart_P] / distance_P[apart_P] ** power
    return float(ratio_P.max()) if len(ratio_P) else 0.0
