"""Alignment of lattices: closed forms, and the counts of plain texts against the edit distance of a library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.errors import InputError
from ccc_w2v.score.hub5.lattice import align, build, count, read_items, read_token, total_cost
from ccc_w2v.score.wer import Counts, count_errors

WORDS = st.lists(st.sampled_from("ABC"), max_size=12).map(" ".join)


def counts(reference: str, hypothesis: str) -> Counts:
    return count(align(build(read_items(reference, "here")), build(read_items(hypothesis, "here"))))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a { b c / d } e", "a d e", Counts(0, 0, 0, 3)),
        ("a { b c / d } e", "a b e", Counts(0, 1, 0, 4)),
        ("a { b / @ } e", "a e", Counts(0, 0, 0, 2)),
        ("a { b / { c / d e } f } g", "a d e f g", Counts(0, 0, 0, 5)),
        ("a (uh) b", "a b", Counts(0, 0, 0, 3)),  # left out, it counts as a right word
        ("a (uh) b", "a uh b", Counts(0, 0, 0, 3)),
        ("a (uh) b", "a oh b", Counts(1, 0, 0, 3)),
        ("wa- -ful (wo-)", "was awful would", Counts(0, 0, 0, 3)),
        ("wa-", "saw", Counts(1, 0, 0, 1)),
        ("was", "wa-", Counts(0, 0, 0, 1)),
        ("-", "x", Counts(1, 0, 0, 1)),
        ("A* b", "a B", Counts(0, 0, 0, 2)),
        ("", "a", Counts(0, 0, 1, 0)),
        ("a", "", Counts(0, 1, 0, 1)),
        ("{ @ }", "", Counts(0, 0, 0, 0)),
    ],
)
def test_counts(reference: str, hypothesis: str, expected: Counts) -> None:
    assert counts(reference, hypothesis) == expected


@given(WORDS, WORDS)
def test_plain_texts_cost_what_they_cost_elsewhere(reference: str, hypothesis: str) -> None:
    places = align(build(read_items(reference, "here")), build(read_items(hypothesis, "here")))
    expected = count_errors(reference.split(), hypothesis.split())
    assert total_cost(places) == 4 * expected.substitutions + 3 * (expected.deletions + expected.insertions)
    assert [left.text for left, _ in places if left] == reference.lower().split()
    assert [right.text for _, right in places if right] == hypothesis.lower().split()


@given(WORDS, WORDS, WORDS)
def test_an_alternative_never_makes_it_worse(reference: str, other: str, hypothesis: str) -> None:
    def cost(text: str) -> int:
        return total_cost(align(build(read_items(text, "here")), build(read_items(hypothesis, "here"))))

    both = f"{{ {reference or '@'} / {other or '@'} }}"
    assert cost(both) == min(cost(reference), cost(other))


@pytest.mark.parametrize("text", ["{ a / b", "a } b", "{ / }", "{}", "c{a / b}", "({ a } )", "{ a { b }"])
def test_refuses_braces_at_which_sclite_loses_words(text: str) -> None:
    with pytest.raises(InputError, match="^here: "):
        read_items(text, "here")


def test_a_token_says_what_it_is() -> None:
    assert [read_token(text).optional for text in ("(a)", "(a", "a")] == [True, False, False]
    assert [read_token(text).fragment for text in ("a-", "-a", "(a-)", "(-a)", "a-b")] == [
        True,
        True,
        True,
        False,
        False,
    ]
