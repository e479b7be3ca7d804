"""What a search returns: words with times and confidences, and the scores by which hypotheses are ranked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Symbol:
    """A symbol of the best path: its index, first and last frame, and its frames' mean log-probability."""

    index: int
    first: int
    last: int
    log_prob: float


@dataclass(frozen=True)
class Word:
    """A word, its start and duration in seconds, and its confidence between 0 and 1."""

    text: str
    start: float
    duration: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """Words and their scores: acoustic (natural logarithm), language model (logarithm to base 10, as KenLM's), total.

    The total is acoustic + weight * lm + word score * words, by which hypotheses are ranked.
    """

    words: list[Word]
    acoustic: float
    lm: float
    total: float

    @property
    def text(self) -> str:
        """Words with spaces between them."""
        return " ".join(word.text for word in self.words)


# From log-probabilities (T, V) to hypotheses, best first, at least one.
Search = Callable[[torch.Tensor], list[Hypothesis]]
