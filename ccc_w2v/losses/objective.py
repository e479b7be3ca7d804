"""The three terms of the objective, and what the criterion computes for them: `Objective`.

Letters: B utterances, M masked frames of each, N negatives, C = 1 + N candidates, of which the positive is the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ccc_w2v.losses.views import AUGMENTED, ORIGINAL


class TermViews(NamedTuple):
    """The views that a term contrasts: whose context, with whose targets."""

    context: str
    target: str


# By the names that the terms are logged under: L_c, L_cross, L'_cross of docs/method.md.
TERMS = {
    "contrastive": TermViews(ORIGINAL, ORIGINAL),
    "cross": TermViews(ORIGINAL, AUGMENTED),
    "cross_aug": TermViews(AUGMENTED, ORIGINAL),
}


@dataclass(frozen=True)
class Term:
    """One computed term."""

    views: TermViews
    raw_BMC: torch.Tensor  # cosine / temperature, before anything is weakened
    logits_BMC: torch.Tensor  # with near positives weakened and equal codes masked out
    loss: torch.Tensor  # (), nats, summed over B x M frames
    correct: torch.Tensor  # (), the number of frames whose positive has the highest logit


@dataclass(frozen=True)
class Negatives:
    """The negatives of one view's targets: which they are, and which of them are weakened or masked out."""

    drawn_BMN: torch.Tensor  # masked frames of the same utterance, 0 to M - 1
    near_BMN: torch.Tensor  # bool, in their positive's cluster
    equal_BMN: torch.Tensor  # bool, with their positive's codes
    labels_BM: torch.Tensor | None  # the targets' clusters, 0 to K - 1; None where nothing was clustered


@dataclass(frozen=True)
class Objective:
    """The computed terms by name, and the negatives and clusters that they share."""

    terms: dict[str, Term]
    original: Negatives
    augmented: Negatives | None  # None where the augmented view's targets were not computed
    clusters: int  # K of each problem; 0 where nothing was clustered
    problems: int  # clustered apart: B utterances, or 1 for the whole batch

    def negatives(self, view: str) -> Negatives:
        """Return the negatives of the targets of "original" or "augmented"; KeyError if these were not computed."""
        negatives = {ORIGINAL: self.original, AUGMENTED: self.augmented}[view]
        if negatives is None:
            raise KeyError(f"the {view} view's targets were not computed")
        return negatives
