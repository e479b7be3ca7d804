"""How texts are scored: the same choices for one decoding, for a comparison and for a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ScoringOptions:
    """Text rules of both sides, who speaks, under which conditions, and the bootstrap's seed.

    ``rules`` names a text normalisation (see normalize.normalize), ``speakers`` is a map, a manifest or a scheme of ids
    (see speakers.units; None resamples utterances), ``conditions`` a file of lines utterance-id condition.
    """

    rules: str = "none"
    seed: int = 0
    speakers: str | Path | None = None
    conditions: str | Path | None = None
