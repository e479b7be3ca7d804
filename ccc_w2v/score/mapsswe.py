"""The matched-pairs test of NIST (MAPSSWE): do two systems err differently on the same speech?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ccc_w2v.score.alignment import Pair

# Words that both systems have right between two segments: errors further apart count as independent.
BOUNDARY_WORDS = 2


@dataclass(frozen=True)
class MatchedPairs:
    """Segments compared, mean of (errors of A - errors of B) over them, Z statistic, two-sided p.

    Z and p are None where the differences have no spread: fewer than two segments, or all equal and not zero.
    """

    segments: int
    mean: float
    z: float | None
    p: float | None


def matched_pairs(left: Mapping[str, Sequence[Pair]], right: Mapping[str, Sequence[Pair]]) -> MatchedPairs:
    """Compare two systems' alignments (utterance id to pairs) with the same references.

    Segments are stretches with errors of either system, parted by at least two words that both have right (Gillick and
    Cox, ICASSP 1989; Pallett, Fisher and Fiscus, ICASSP 1990). The differences of errors per segment are tested
    against a mean of zero with the normal distribution, which wants some 50 segments. As ``sc_stats -t mapsswe``, but
    for the second system's insertions after the last word, which sc_stats does not always count.

    Raises ValueError for different references.
    """
    if left.keys() != right.keys():
        raise ValueError("the two systems hold different utterances")
    differences = [a - b for utterance in left for a, b in segment_errors(left[utterance], right[utterance])]
    count = len(differences)
    mean = sum(differences) / count if count else 0.0
    if not any(differences):
        return MatchedPairs(count, mean, 0.0, 1.0)
    variance = sum((difference - mean) ** 2 for difference in differences) / (count - 1) if count > 1 else 0.0
    if variance == 0:
        return MatchedPairs(count, mean, None, None)
    z = mean / math.sqrt(variance / count)
    return MatchedPairs(count, mean, z, math.erfc(abs(z) / math.sqrt(2)))


def segment_errors(left: Sequence[Pair], right: Sequence[Pair]) -> list[tuple[int, int]]:
    """Return both systems' errors in each segment of one utterance."""
    segments: list[tuple[int, int]] = []
    right_in_a_row = BOUNDARY_WORDS
    for errors in _steps(left, right):
        if errors == (0, 0):
            right_in_a_row += 1
            continue
        if right_in_a_row >= BOUNDARY_WORDS:
            segments.append((0, 0))
        segments[-1] = (segments[-1][0] + errors[0], segments[-1][1] + errors[1])
        right_in_a_row = 0
    return segments


def _steps(left: Sequence[Pair], right: Sequence[Pair]) -> Iterable[tuple[int, int]]:
    """Yield both systems' errors at each reference word, and before it their insertions where there are any."""
    words = [word for word, _ in left if word is not None]
    if words != [word for word, _ in right if word is not None]:
        raise ValueError(f"different references: {' '.join(words)!r} is not the other system's")
    for (inserted_left, wrong_left), (inserted_right, wrong_right) in zip(_by_word(left), _by_word(right), strict=True):
        if inserted_left or inserted_right:
            yield inserted_left, inserted_right
        yield wrong_left, wrong_right


def _by_word(pairs: Sequence[Pair]) -> Iterable[tuple[int, int]]:
    """Yield (insertions before the word, 1 where it is wrong) for each reference word and for the end."""
    inserted = 0
    for word, heard in pairs:
        if word is None:
            inserted += 1
        else:
            yield inserted, int(word != heard)
            inserted = 0
    yield inserted, 0
