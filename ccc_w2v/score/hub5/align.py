"""Scoring of recordings against an .stm with a GLM, as NIST's hubscr does it for English (Hub5): our own counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from ccc_w2v.data.stm import Segment, Stm, TimedWord
from ccc_w2v.errors import InputError
from ccc_w2v.score.hub5.glm import Glm, filter_text, filter_word, read_glm
from ccc_w2v.score.hub5.lattice import NULL, Item, Items, Place, align, build, count, read_items, read_token
from ccc_w2v.score.wer import Counts

Side = tuple[str, str]


@dataclass(frozen=True)
class ScoredSegment:
    """A segment that counts, and which word of it became which."""

    segment: Segment
    places: list[Place]

    @property
    def counts(self) -> Counts:
        """The segment's errors and words."""
        return count(self.places)


@dataclass(frozen=True)
class _Spoken:
    """A word or alternatives of the hypothesis, after the GLM; ``middle`` [s] decides the segment."""

    middle: float
    item: Item


def side(item: Segment | TimedWord) -> Side:
    """Return recording and channel, without case, as sclite compares them."""
    return item.recording.lower(), item.channel.lower()


def in_order(stm: Stm) -> list[Segment]:
    """Return the segments in hubscr's order."""
    return sorted(stm.segments, key=lambda segment: (*side(segment), segment.start))


def words_in_order(words: Iterable[TimedWord]) -> list[TimedWord]:
    """Return a hypothesis's words in hubscr's order."""
    return sorted(words, key=lambda word: (*side(word), word.start))


def check_sides(stm: Stm, words: Sequence[TimedWord], decoded: Iterable[Side]) -> list[TimedWord]:
    """Return ``words`` and a null word for each side that was ``decoded`` and is silent in the hypothesis.

    Raises InputError for a side (recording and channel) that one of the two files lacks: sclite would count its words
    as deleted, or leave them out; and for markup in a word, which would make errors free.
    """
    scored = {side(segment): segment for segment in reversed(stm.segments) if not segment.ignored}
    known = {side(segment) for segment in stm.segments}
    for word in words:
        if side(word) not in known:
            raise InputError(
                f"{word.recording} channel {word.channel} has words in the hypothesis{_line(word)} and no "
                f"segment in {stm.source}; score the recordings that were decoded"
            )
        if word.word == NULL or set(word.word) & set("(){}/"):
            raise InputError(
                f"the hypothesis holds {word.word!r}{_line(word)}, which is markup of references; write plain words"
            )
    spoken, decoded = {side(word) for word in words}, set(decoded)
    if missing := [segment for name, segment in scored.items() if name not in spoken | decoded]:
        raise InputError(
            f"{stm.where(missing[0])}: the hypothesis has no word of {missing[0].recording} channel "
            f"{missing[0].channel} ({len(missing)} of {len(scored)} sides are missing); decode them, or score with "
            "--segments and hyp.trn, where an utterance may be empty"
        )
    silent = (segment for name, segment in scored.items() if name not in spoken)
    return [*words, *(TimedWord(segment.recording, segment.channel, 0, 0, NULL) for segment in silent)]


def _line(word: TimedWord) -> str:
    return f" (line {word.line})" if word.line else ""


def score_segments(stm: Stm, words: Sequence[TimedWord], glm_path: str | Path) -> list[ScoredSegment]:
    """Align each segment that counts with the words whose middle is in it, in hubscr's order.

    ``words`` are those that check_sides returns. Raises InputError as read_glm, filter_text and read_items do.
    """
    for_reference, for_hypothesis = read_glm(glm_path, "stm", "ref"), read_glm(glm_path, "ctm", "hyp")
    spoken = {
        name: [spoken_word for word in side_words for spoken_word in _spoken(word, for_hypothesis)]
        for name, side_words in groupby(words_in_order(words), key=side)
    }
    scored = []
    for name, segments in groupby(in_order(stm), key=side):
        for segment, items in _assign(list(segments), spoken.get(name, [])):
            if not segment.ignored:
                text = filter_text(segment.text, for_reference, stm.where(segment))
                reference = build(read_items(text, stm.where(segment)))
                scored.append(ScoredSegment(segment, align(reference, build(items))))
    return scored


def _spoken(word: TimedWord, glm: Glm) -> list[_Spoken]:
    where = f"the hypothesis's word {word.word!r}{_line(word)}"
    alternatives = filter_word(word.word, glm, where)
    if len(alternatives) < 2:
        timed = [share for words in alternatives for share in _shares(word, words)]
        return [_Spoken(middle, read_token(text)) for middle, text in timed]
    middle = max(middle for words in alternatives for middle, _ in _shares(word, words))
    return [_Spoken(middle, [[read_token(text) for text in words] for words in alternatives])]


def _shares(word: TimedWord, words: Sequence[str]) -> list[tuple[float, str]]:
    """Part a word's time equally, rounded where csrfilt.sh writes it, and return each part's middle."""
    start, duration = milliseconds(word.start), milliseconds(word.duration)
    share = duration / len(words)
    starts = (milliseconds(start + share * index) for index in range(len(words)))
    return [(begin + milliseconds(share) / 2, text) for begin, text in zip(starts, words, strict=True)]


def milliseconds(seconds: float) -> float:
    """Return a time as it is read again from a file with three decimals."""
    return float(f"{seconds:.3f}")


def _assign(segments: Sequence[Segment], spoken: Sequence[_Spoken]) -> Iterable[tuple[Segment, Items]]:
    """Yield each segment of a side with its words: those before its end, and at the last segment all that are left."""
    at = 0
    for segment in segments:
        first = at
        # sclite reads the end in single precision, which decides where a word's middle is just there.
        end = np.inf if segment is segments[-1] else float(np.float32(milliseconds(segment.end)))
        while at < len(spoken) and spoken[at].middle < end:
            at += 1
        yield segment, [spoken_word.item for spoken_word in spoken[first:at]]
