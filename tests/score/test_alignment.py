"""Alignments against NIST sclite's, and their counts against count_errors."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.score.alignment import Pair, align, align_all, confusions
from ccc_w2v.score.wer import Counts, count_errors
from tests.score.nist import needs_sclite, sclite_alignments, sgml, utterance_pairs

WORDS = st.lists(st.sampled_from("ABC"), max_size=12)


def counts_of(pairs: list[Pair]) -> Counts:
    wrong = [(left, right) for left, right in pairs if left != right]
    deleted, inserted = (sum(pair[side] is None for pair in wrong) for side in (1, 0))
    return Counts(len(wrong) - deleted - inserted, deleted, inserted, sum(left is not None for left, _ in pairs))


@given(WORDS, WORDS)
def test_holds_both_sides_and_the_counted_errors(reference: list[str], hypothesis: list[str]) -> None:
    pairs = align(reference, hypothesis)
    assert [left for left, _ in pairs if left is not None] == reference
    assert [right for _, right in pairs if right is not None] == hypothesis
    assert (None, None) not in pairs
    assert counts_of(pairs) == count_errors(reference, hypothesis)


def test_a_long_alignment_keeps_its_ties(tmp_path: Path) -> None:
    # 3 substitutions and 2 deletions + 2 insertions cost the same; 2000 words more must not drown the difference.
    reference, hypothesis = ["A", "B", "C"] + ["X"] * 2000, ["B", "C", "A"] + ["X"] * 2000
    assert counts_of(align(reference, hypothesis)) == count_errors(reference, hypothesis)


@needs_sclite
def test_shows_what_sclite_shows(tmp_path: Path) -> None:
    same = total = 0
    for seed, vocabulary in enumerate((3, 12)):
        references, hypotheses = utterance_pairs(seed, vocabulary, longest=20)
        ours, theirs = align_all(references, hypotheses), sclite_alignments(sgml(tmp_path, references, hypotheses, "a"))
        assert ours.keys() == theirs.keys()
        total += len(ours)
        for utterance, pairs in ours.items():
            assert [left for left, _ in theirs[utterance]].count(None) >= counts_of(pairs).insertions
            same += pairs == theirs[utterance]
    # The rest are other alignments of the same cost (test_wer holds them to that).
    assert same >= 0.9 * total


def test_confusions_are_ranked() -> None:
    pairs = [("A", "B"), ("A", "B"), ("A", "A"), ("C", "B"), ("B", "C"), (None, "A"), ("D", None), ("D", None)]
    counts = confusions([pairs, [("D", None), ("A", None)]])
    assert counts.substitutions == [("A", "B", 2), ("B", "C", 1), ("C", "B", 1)]
    assert counts.deletions == [("D", 3), ("A", 1)]
    assert counts.insertions == [("A", 1)]
    assert confusions([pairs], most=1).substitutions == [("A", "B", 2)]
