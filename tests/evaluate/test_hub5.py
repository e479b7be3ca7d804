"""Hub5 scoring: segment by segment what NIST sclite counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.evaluate.hub5 import ScoredSegment, score_segments
from ccc_w2v.evaluate.lattice import total_cost
from ccc_w2v.evaluate.sclite import installed, run_sclite
from ccc_w2v.evaluate.wer import Counts
from tests.evaluate.hub5_pairs import GLM, draw_pairs, stored_pairs

needs_sclite = pytest.mark.skipif(not installed(), reason="NIST sclite is not installed (package sctk)")


def counts_of(scored: list[ScoredSegment]) -> list[Counts]:
    return [each.counts for each in scored]


def test_counts_what_sclite_counted() -> None:
    stm, words, counts = stored_pairs()
    assert counts_of(score_segments(stm, words, GLM)) == counts
    # The pairs hold enough of everything to be worth comparing.
    assert len(counts) > 200
    assert (
        min(sum(getattr(each, kind) for each in counts) for kind in ("substitutions", "deletions", "insertions")) > 50
    )


@needs_sclite
def test_the_stored_counts_are_sclites() -> None:
    stm, words, counts = stored_pairs()
    assert [found for found, _ in run_sclite(stm, words, GLM)] == counts


@needs_sclite
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_aligns_as_sclite_aligns(seed: int) -> None:
    stm, words = draw_pairs(random.Random(seed), recordings=3, segments=40)
    ours, theirs = score_segments(stm, words, GLM), run_sclite(stm, words, GLM)
    for each, (counts, places) in zip(ours, theirs, strict=True):
        assert each.counts == counts, each.segment.text
        assert total_cost(each.places) == total_cost(places)
        assert each.places == places
