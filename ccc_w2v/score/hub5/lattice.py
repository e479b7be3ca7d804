"""Alignment of word lattices: alternatives, optionally deletable words, the null word and broken words, as in sclite.

No maintained library aligns alternatives: rapidfuzz, jiwer, kaldialign and Biopython take plain sequences, and MeetEval
says that it does not support them. So the dynamic programming is here, with the costs, the order of comparison and the
single precision of sclite 2.10, on which its choice among equal alignments depends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ccc_w2v.errors import InputError
from ccc_w2v.score.wer import Counts

NULL = "@"
# sclite's costs: a null word left out, two null words, an optional word left out, any other left out, a substitution.
_NULL_GAP, _NULL_PAIR, _OPTIONAL_GAP, _GAP, _SUBSTITUTION = map(np.float32, (0.001, 1, 2, 3, 4))
_NOTHING = np.float32(0)
_WORD_OUTSIDE, _WORD_INSIDE = re.compile(r"[^\s{}]+"), re.compile(r"[^\s{}/]+")


@dataclass(frozen=True)
class Token:
    """A word as it is compared: lower-case, without the parentheses that make it optionally deletable."""

    text: str
    optional: bool = False
    fragment: bool = False

    @property
    def gap(self) -> np.float32:
        """The cost of a place where only this word stands."""
        return _NULL_GAP if self.text == NULL else _OPTIONAL_GAP if self.optional else _GAP

    def equals(self, other: Token) -> bool:
        """Compare as sclite -F: a word broken off ("wor-", "-ord") equals each word that it may be a part of."""
        if self.fragment or other.fragment:
            for part, whole in ((self.text, other.text), (other.text, self.text)):
                if len(part) > 1 and part.startswith("-"):
                    return whole.endswith(part[1:])
                if len(part) > 1 and part.endswith("-"):
                    return whole.startswith(part[:-1])
        return self.text == other.text


def read_token(spelling: str) -> Token:
    """Read one word of a filtered text; sclite compares a-z without case and drops one "*" at a word's end."""
    text = spelling.encode().lower().decode()
    if len(text) > 1 and text.endswith("*"):
        text = text[:-1]
    optional = text.startswith("(") and text.endswith(")")
    fragment = text.startswith("-") or text.endswith("-") or (optional and text.endswith("-)"))
    return Token(text[1:-1] if optional else text, optional, fragment)


# A word, or alternatives of which each is a sequence again.
Item = Token | list["Items"]
Items = list[Item]


class Lattice(NamedTuple):
    """Words in topological order, from place 1; before[i] are the places ahead of place i (0 is the start).

    ``last`` are the places that end the lattice.
    """

    words: list[Token]
    before: list[list[int]]
    last: list[int]


def read_items(text: str, where: str) -> Items:
    """Read a filtered reference: words and alternatives "{ a b / c / @ }", which may be nested.

    Raises InputError for braces that are not closed, stand inside of a word or hold nothing: sclite would drop the rest
    of the line, and with it words that count.
    """
    items, rest = _read_items(text, where, nested=False)
    if rest:
        raise InputError(f"{where}: '}}' without '{{' in {text!r}; correct the line or the GLM's rule for it")
    return items[0]


def _read_items(text: str, where: str, nested: bool) -> tuple[list[Items], str]:
    """Return the alternatives up to the closing brace, or the one of the whole line, and the text after it."""
    alternatives: list[Items] = [[]]
    while text := text.lstrip():
        if text[0] == "}":
            break
        if text[0] == "{":
            inner, rest = _read_items(text[1:], where, nested=True)
            inner = [each for each in inner if each]
            if not rest.startswith("}") or not inner:
                raise InputError(f"{where}: braces not closed or empty at {text!r}; correct the line or the GLM's rule")
            alternatives[-1].append(list(inner))
            text = rest[1:]
        elif text[0] == "/" and nested:
            alternatives.append([])
            text = text[1:]
        else:
            word = next((_WORD_INSIDE if nested else _WORD_OUTSIDE).finditer(text))[0]
            if text[len(word) : len(word) + 1] == "{":
                raise InputError(f"{where}: a brace inside of the word {text.split()[0]!r}; correct the line")
            alternatives[-1].append(read_token(word))
            text = text[len(word) :]
    return alternatives, text


def build(items: Items) -> Lattice:
    """Lay items out as a lattice."""
    lattice = Lattice([], [[]], [])
    lattice.last.extend(_extend(lattice, items, [0]))
    return lattice


def _extend(lattice: Lattice, items: Items, entering: list[int]) -> list[int]:
    for item in items:
        if isinstance(item, Token):
            lattice.words.append(item)
            lattice.before.append(entering)
            entering = [len(lattice.words)]
        else:
            entering = [place for alternative in item for place in _extend(lattice, alternative, entering)]
    return entering


# A way to reach a pair of places: its cost and the pair ahead.
Step = tuple[np.float32, tuple[int, int]]
# One aligned place; None where the side has no word.
Place = tuple[Token | None, Token | None]


def align(reference: Lattice, hypothesis: Lattice) -> list[Place]:
    """Return the aligned words of the cheapest pair of paths, null words left out; of equal ones that of sclite."""
    gaps_a, gaps_b = ([_NOTHING, *(word.gap for word in side.words)] for side in (reference, hypothesis))
    costs = [[_NOTHING] * len(gaps_b) for _ in gaps_a]
    origins = [[(0, 0)] * len(gaps_b) for _ in gaps_a]
    for a, before_a in enumerate(reference.before):
        for b, before_b in enumerate(hypothesis.before):
            # In sclite's order of preference, which min() keeps where costs are equal.
            steps = []
            if a and b:
                cost, origin = _cheapest(costs, before_a, before_b)
                steps.append((cost + _pair(reference.words[a - 1], hypothesis.words[b - 1]), origin))
            if b:
                cost, origin = _cheapest(costs, [a], before_b)
                steps.append((cost + gaps_b[b], origin))
            if a:
                cost, origin = _cheapest(costs, before_a, [b])
                steps.append((cost + gaps_a[a], origin))
            if steps:
                costs[a][b], origins[a][b] = min(steps, key=_cost)
    return list(_trace(reference, hypothesis, origins, _cheapest(costs, reference.last, hypothesis.last)[1]))[::-1]


def _cost(step: Step) -> np.float32:
    return step[0]


def _cheapest(costs: list[list[np.float32]], places_a: list[int], places_b: list[int]) -> Step:
    if len(places_a) == len(places_b) == 1:
        return costs[places_a[0]][places_b[0]], (places_a[0], places_b[0])
    return min(((costs[a][b], (a, b)) for a in places_a for b in places_b), key=_cost)


def _pair(left: Token, right: Token) -> np.float32:
    if left.text == right.text == NULL:
        return _NULL_PAIR
    return _NOTHING if left.equals(right) else _SUBSTITUTION


def _trace(
    reference: Lattice, hypothesis: Lattice, origins: list[list[tuple[int, int]]], end: tuple[int, int]
) -> Iterator[Place]:
    a, b = end
    while (a, b) != (0, 0):
        before_a, before_b = origins[a][b]
        left = reference.words[a - 1] if before_a != a else None
        right = hypothesis.words[b - 1] if before_b != b else None
        if any(word is not None and word.text != NULL for word in (left, right)):
            yield left, right
        a, b = before_a, before_b


def is_right(place: Place) -> bool:
    """Whether sclite -F -D counts the place as correct: equal words, or an optional word alone."""
    left, right = place
    if left is None or right is None:
        return any(word is not None and word.optional for word in place)
    return left.equals(right)


def count(places: Sequence[Place]) -> Counts:
    """Count errors; the words are those on the reference's path and, as sclite counts, each correct place."""
    wrong = [place for place in places if not is_right(place)]
    deletions, insertions = (sum(place[side] is None for place in wrong) for side in (1, 0))
    return Counts(len(wrong) - deletions - insertions, deletions, insertions, len(places) - insertions)


def total_cost(places: Sequence[Place]) -> int:
    """Return what the alignment costs, but for its null words: equal for alignments that sclite chooses between."""
    costs = []
    for left, right in places:
        if left is not None and right is not None:
            costs.append(_pair(left, right))
        else:
            costs += [word.gap for word in (left, right) if word is not None]
    return int(sum(costs))
