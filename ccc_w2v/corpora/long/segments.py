"""From where speech is to segments: joined up to a longest length, cut where there is no pause, padded a little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ccc_w2v.corpora.long.speech import Region, joined
from ccc_w2v.corpora.own.pauses import FRAME_SECONDS, cut_points

PAD_SECONDS = 0.1  # kept before and after speech, within the pause: onsets are soft


@dataclass(frozen=True)
class SegmentLimits:
    """Lengths in seconds: of a segment, of what counts as a pause, and of a silence that ends a segment."""

    shortest: float = 1.0
    longest: float = 30.0
    pause: float = 0.3
    silence: float = 2.0


def segments(speech: Sequence[Region], level_T: np.ndarray, seconds: float, limits: SegmentLimits) -> list[Region]:
    """Return segments (start, end) in seconds, in order and without overlap, from ``shortest`` to ``longest``.

    They begin and end in pauses. Speech of more than ``longest`` without a pause is cut where it is quietest; pauses up
    to ``silence`` stay inside a segment, longer ones and speech of less than ``shortest`` are left out.
    """
    cut = [piece for region in speech for piece in _cut(region, level_T, limits.longest)]
    # Neighbours stay together while they fit and no silence is between them.
    whole = list(
        joined(
            cut,
            lambda current, region: (
                region[0] - current[1] <= limits.silence and region[1] - current[0] <= limits.longest
            ),
        )
    )
    padded = _padded(whole, seconds, limits)
    return [(start, end) for start, end in padded if end - start >= limits.shortest]


def _cut(region: Region, level_T: np.ndarray, longest: float) -> Iterator[Region]:
    start, end = region
    if end - start <= longest:
        yield region
        return
    first = round(start / FRAME_SECONDS)
    # A frame less: cuts are whole frames, and the region may begin within one.
    frames = cut_points(level_T[first : round(end / FRAME_SECONDS)], longest - FRAME_SECONDS)
    edges = [start, *((first + frame) * FRAME_SECONDS for frame in frames), end]
    yield from zip(edges[:-1], edges[1:], strict=True)


def _padded(regions: Sequence[Region], seconds: float, limits: SegmentLimits) -> Iterator[Region]:
    """Widen regions into half of the pause around them, up to PAD_SECONDS and to the longest length."""
    for position, (start, end) in enumerate(regions):
        before = start - regions[position - 1][1] if position else 2 * start
        after = regions[position + 1][0] - end if position + 1 < len(regions) else 2 * (seconds - end)
        room = max(0.0, limits.longest - (end - start)) / 2
        yield (
            start - max(0.0, min(PAD_SECONDS, before / 2, room)),
            min(seconds, end + max(0.0, min(PAD_SECONDS, after / 2, room))),
        )
