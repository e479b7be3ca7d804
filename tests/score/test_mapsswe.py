"""The matched-pairs test against NIST's sc_stats on the same files, and by hand."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from ccc_w2v.score.alignment import align, align_all
from ccc_w2v.score.mapsswe import MatchedPairs, matched_pairs, segment_errors
from tests.score.nist import mapsswe, needs_sclite, sclite_alignments, sgml


def systems(seed: int, rates: tuple[float, float]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Draw references and two systems with errors at the given rates; all end in one word that both have right."""
    draw = random.Random(seed)
    words = [f"W{index}" for index in range(40)]
    references, heard = {}, ({}, {})
    for index in range(120):
        utterance, reference = f"spk{index % 7}-{index:04d}", draw.choices(words, k=draw.randint(1, 30))
        references[utterance] = " ".join([*reference, "END"])
        for texts, rate in zip(heard, rates, strict=True):
            kept = [word for word in reference if draw.random() > rate / 3]
            kept = [draw.choice(words) if draw.random() < rate / 3 else word for word in kept]
            kept = [
                part for word in kept for part in ([draw.choice(words), word] if draw.random() < rate / 3 else [word])
            ]
            texts[utterance] = " ".join([*kept, "END"])
    return references, *heard


@needs_sclite
@pytest.mark.parametrize(
    ("seed", "rates"), [(0, (0.2, 0.2)), (1, (0.25, 0.2)), (2, (0.1, 0.15)), (3, (0.5, 0.45)), (4, (0.02, 0.05))]
)
def test_as_sc_stats(tmp_path: Path, seed: int, rates: tuple[float, float]) -> None:
    references, *heard = systems(seed, rates)
    reports = [sgml(tmp_path, references, texts, name) for texts, name in zip(heard, "ab", strict=True)]
    segments, mean, z, p = mapsswe(tmp_path, reports)
    # On sclite's own alignments all is sc_stats' to the last digit that it prints.
    theirs = matched_pairs(*map(sclite_alignments, reports))
    assert theirs.segments == segments
    assert [theirs.mean, theirs.z] == pytest.approx([mean, z], abs=0.00051)
    # It looks p up in a table at Z cut to two decimals, so its p is somewhat high, and prints nothing below 0.001.
    table_z = math.floor(abs(theirs.z) * 100) / 100
    assert p == pytest.approx(max(0.001, math.erfc(table_z / math.sqrt(2))), abs=0.00051)
    assert theirs.p <= p + 0.00051
    # Ours differ from sclite's where there is a tie.
    ours = matched_pairs(*(align_all(references, texts) for texts in heard))
    assert ours.segments == pytest.approx(segments, rel=0.02)
    assert ours.z == pytest.approx(z, abs=0.1)


def errors_of(reference: str, left: str, right: str) -> list[tuple[int, int]]:
    return segment_errors(*(align(reference.split(), text.split()) for text in (left, right)))


def test_two_right_words_part_segments() -> None:
    assert errors_of("A B C D", "A B C D", "A B C D") == []
    assert errors_of("A B C D", "X B C Y", "A B C D") == [(1, 0), (1, 0)]
    assert errors_of("A B C", "X B Y", "A B C") == [(2, 0)]
    assert errors_of("A B C D", "X B C D", "A X C Y") == [(1, 2)]
    assert errors_of("A B C D", "A B X C D", "A B C D") == [(1, 0)]
    # An insertion between two right words keeps them from parting segments.
    assert errors_of("A B C D", "X B Y C Z", "A B C D") == [(3, 0)]
    # sc_stats overlooks the second of these.
    assert errors_of("A B", "A B X", "A B") == [(1, 0)]
    assert errors_of("A B", "A B", "A B X") == [(0, 1)]


def test_known_statistic() -> None:
    references = {str(index): "A B C" for index in range(4)}
    left = {**references, "0": "X B C", "1": "X B C", "2": "X Y C"}
    right = {**references, "3": "A B Y"}
    # Differences 1, 1, 2, -1: mean 3/4, variance 19/12.
    tested = matched_pairs(align_all(references, left), align_all(references, right))
    z = 0.75 / math.sqrt(19 / 12 / 4)
    assert tested == MatchedPairs(4, 0.75, pytest.approx(z), pytest.approx(math.erfc(z / math.sqrt(2))))
    swapped = matched_pairs(align_all(references, right), align_all(references, left))
    assert (swapped.mean, swapped.z, swapped.p) == (-tested.mean, pytest.approx(-z), tested.p)


def test_no_spread_no_statistic() -> None:
    references = {"0": "A B C", "1": "A B C"}
    once, twice = {"0": "X B C", "1": "A B C"}, {"0": "X B C", "1": "X B C"}
    right, single, two = (align_all(references, texts) for texts in (references, once, twice))
    assert matched_pairs(right, right) == MatchedPairs(0, 0.0, 0.0, 1.0)
    assert matched_pairs(two, two) == MatchedPairs(2, 0.0, 0.0, 1.0)
    assert matched_pairs(single, right) == MatchedPairs(1, 1.0, None, None)
    assert matched_pairs(two, right) == MatchedPairs(2, 1.0, None, None)


def test_other_references_are_refused() -> None:
    left = {"0": align(["A"], ["A"])}
    with pytest.raises(ValueError, match="different utterances"):
        matched_pairs(left, {"1": align(["A"], ["A"])})
    with pytest.raises(ValueError, match="different references: 'A'"):
        matched_pairs(left, {"0": align(["B"], ["A"])})
