"""Which word became which: the alignment that NIST sclite shows, and the confusions in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from Bio.Align import PairwiseAligner

# One aligned place: reference word and hypothesis word, None where one side has no word.
Pair = tuple[str | None, str | None]


def error_costs(longest: int) -> tuple[int, int, int]:
    """Return (scale, gap, substitution): sclite's costs of 3 and 4 so scaled that ties go to fewest errors.

    One error more costs 1, one unit of sclite's cost costs ``scale``, which is more than all errors of an alignment of
    ``longest`` places together.
    """
    scale = longest + 1
    return scale, 3 * scale + 1, 4 * scale + 1


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Align two word sequences at sclite's costs; of equal alignments the one that sclite would show.

    The aligner is Biopython's, which takes any costs: those of jiwer and rapidfuzz show alignments at unit costs only,
    and kaldialign's sclite mode resolves ties to more errors. It prefers a match or substitution at the end it traces
    from, sclite at the first word, hence the reversal.
    """
    if not reference or not hypothesis:
        return [(word, None) for word in reference] + [(None, word) for word in hypothesis]
    _, gap, substitution = error_costs(len(reference) + len(hypothesis))
    aligner = PairwiseAligner(
        mode="global", match_score=0, mismatch_score=-substitution, open_gap_score=-gap, extend_gap_score=-gap
    )
    codes: dict[Hashable, int] = {}
    sides = [
        np.array([codes.setdefault(word, len(codes)) for word in reversed(side)], dtype=np.int32)
        for side in (reference, hypothesis)
    ]
    places = aligner.align(*sides)[0].indices[:, ::-1].T.tolist()
    return [
        (None if left < 0 else reference[-1 - left], None if right < 0 else hypothesis[-1 - right])
        for left, right in places
    ]


def align_all(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, list[Pair]]:
    """Align each utterance's words; both sides go from utterance id to text and hold the same ids."""
    return {utterance: align(text.split(), hypotheses[utterance].split()) for utterance, text in references.items()}


@dataclass(frozen=True)
class Confusions:
    """The most frequent errors with their counts, most frequent first, equal counts in alphabetical order."""

    substitutions: list[tuple[str, str, int]]
    deletions: list[tuple[str, int]]
    insertions: list[tuple[str, int]]


def confusions(alignments: Iterable[Sequence[Pair]], most: int = 10) -> Confusions:
    """Return the ``most`` frequent substitutions, deletions and insertions of all alignments."""
    counted = Counter(pair for pairs in alignments for pair in pairs if pair[0] != pair[1])
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
    return Confusions(
        [(left, right, count) for (left, right), count in ranked if left is not None and right is not None][:most],
        [(left, count) for (left, right), count in ranked if left is not None and right is None][:most],
        [(right, count) for (left, right), count in ranked if left is None and right is not None][:most],
    )
