"""Hypotheses of utterances, put back into the recordings that they were cut from: what an .stm is scored against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ccc_w2v.data.cuts import Cut, read_cuts
from ccc_w2v.data.stm import Segment, Stm, TimedWord, read_ctm
from ccc_w2v.data.trn import read_trn
from ccc_w2v.errors import InputError
from ccc_w2v.score.hub5.align import Side, check_sides, side

# A cut may reach so far into the segments beside its own.
PADDING_SECONDS = 0.25


def read_hypothesis(path: str | Path, stm: Stm, cuts_path: str | Path | None = None) -> list[TimedWord]:
    """Read the words to score against ``stm``, and a null word for each recording's channel without any.

    With ``cuts_path`` (see data.cuts), ``path`` holds utterances: a .ctm whose times count from each cut's start, or a
    .trn, whose words are spread evenly over the part of the segment that the cut covers. Without it, ``path`` is a .ctm
    of recordings.

    Raises InputError for utterances or recordings that one side lacks, and as what it reads does.
    """
    is_trn = Path(path).suffix == ".trn"
    if cuts_path is None:
        if is_trn:
            raise InputError(f"{path}: utterances without times; add --segments, or score the recordings' .ctm")
        return check_sides(stm, read_ctm(path), decoded=())
    cuts = read_cuts(cuts_path)
    segments = _by_side(stm)
    _check_cuts(stm, segments, cuts, cuts_path)
    if not is_trn:
        words = [_shift(word, cuts, f"{path}:{word.line}", cuts_path) for word in read_ctm(path)]
        return check_sides(stm, words, decoded=())
    texts = read_trn(path)
    for missing, present, absent in ((path, cuts, texts), (cuts_path, texts, cuts)):
        if lacking := [utterance for utterance in present if utterance not in absent]:
            raise InputError(
                f"{missing}: {len(lacking)} of {len(present)} utterances are missing: {', '.join(lacking[:3])}"
                f"{', ...' if len(lacking) > 3 else ''}; score all utterances of one decoding"
            )
    words = [
        word for utterance, text in texts.items() for word in _spread(text.split(), cuts[utterance], segments, stm)
    ]
    return check_sides(stm, words, decoded={_side_of(cut) for cut in cuts.values()})


def _side_of(cut: Cut) -> Side:
    return cut.recording.lower(), cut.channel.lower()


def _by_side(stm: Stm) -> dict[Side, list[Segment]]:
    segments: dict[Side, list[Segment]] = {}
    for segment in stm.segments:
        segments.setdefault(side(segment), []).append(segment)
    return segments


def _overlap(cut: Cut, segment: Segment) -> float:
    return min(cut.end, segment.end) - max(cut.start, segment.start)


def _distance(cut: Cut, segment: Segment) -> tuple[float, float]:
    """Return what is least for the segment that was cut: the share of their union that is common, then the middles."""
    union = max(cut.end, segment.end) - min(cut.start, segment.start)
    apart = abs(cut.start + cut.end - segment.start - segment.end)
    return -max(_overlap(cut, segment), 0) / union, apart


def _check_cuts(stm: Stm, segments: Mapping[Side, list[Segment]], cuts: Mapping[str, Cut], source: str | Path) -> None:
    by_side: dict[Side, list[Cut]] = {}
    for cut in cuts.values():
        if _side_of(cut) not in segments:
            raise InputError(
                f"{source}: utterance {cut.utterance!r} is of {cut.recording} channel {cut.channel}, of which "
                f"{stm.source} has no segment; give the segments of this reference"
            )
        by_side.setdefault(_side_of(cut), []).append(cut)
    for name, of_side in segments.items():
        for segment in of_side:
            if not segment.ignored and not any(_overlap(cut, segment) >= 0 for cut in by_side.get(name, [])):
                raise InputError(
                    f"{stm.where(segment)}: no utterance of {source} covers this segment; decode all segments, or "
                    "score with a reference that holds only those"
                )


def _shift(word: TimedWord, cuts: Mapping[str, Cut], where: str, source: str | Path) -> TimedWord:
    if word.recording not in cuts:
        raise InputError(
            f"{where}: utterance {word.recording!r} is not in {source}; give the segments of this decoding"
        )
    cut = cuts[word.recording]
    return replace(word, recording=cut.recording, channel=cut.channel, start=cut.start + word.start)


def _spread(words: Sequence[str], cut: Cut, segments: Mapping[Side, list[Segment]], stm: Stm) -> list[TimedWord]:
    if not words:
        return []
    own, *others = sorted(segments[_side_of(cut)], key=lambda segment: _distance(cut, segment))
    if _overlap(cut, own) <= 0:
        raise InputError(
            f"utterance {cut.utterance!r} has words and lies in no segment of {stm.source}; correct its times"
        )
    other = max(others, key=lambda segment: _overlap(cut, segment), default=own)
    if other is not own and _overlap(cut, other) > PADDING_SECONDS:
        raise InputError(
            f"utterance {cut.utterance!r} covers the segments of {stm.where(own)} and of line {other.line}: which "
            "words are in which is not known; score the .ctm, whose words have times"
        )
    start, share = max(cut.start, own.start), _overlap(cut, own) / len(words)
    return [
        TimedWord(cut.recording, cut.channel, start + share * index, share, word) for index, word in enumerate(words)
    ]
