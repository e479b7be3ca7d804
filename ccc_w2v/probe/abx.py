"""ABX error of phones by fastabx: how often X, of A's phone, is nearer to B, of another one; 0.5 is chance.

Of any context: A, B and X are single phones, not triphones. Within speakers all three are one speaker's, across
speakers X is another's. Source: Schatz et al., Interspeech 2013; fastabx (arXiv 2505.02692).
Letters: T frames, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

SPEAKERS = ("within", "across")
# As the ZeroSpeech 2021 evaluation samples.
MAX_GROUP, MAX_ACROSS = 10, 5


@dataclass(frozen=True)
class PhoneSegment:
    """A phone of a speaker with its frames [first, end) in all frames of a set."""

    phone: str
    speaker: str
    first: int
    end: int


def available() -> bool:
    """Tell whether fastabx can be imported: it is made for Python 3.12 and newer."""
    try:
        import fastabx  # noqa: F401
    except ImportError:
        return False
    return True


def abx_error(
    frames_TD: torch.Tensor, segments: Sequence[PhoneSegment], speaker: str, *, discrete: bool = False, seed: int = 0
) -> float:
    """Return the ABX error rate of segments, compared by dynamic time warping; not a number where no triple exists.

    The distance of frames is the angle between them, of ``discrete`` units (T, 1) whether they differ.
    """
    import fastabx
    import polars

    labels = polars.DataFrame({"phone": [s.phone for s in segments], "speaker": [s.speaker for s in segments]})
    places = {number: (segment.first, segment.end) for number, segment in enumerate(segments)}
    accessor = fastabx.InMemoryAccessor(places, frames_TD, torch.device("cpu"))
    conditions: dict[str, Any] = {"by" if speaker == "within" else "across": ["speaker"]}
    try:
        task = fastabx.Task(
            fastabx.Dataset(labels=labels, accessor=accessor),
            on="phone",
            subsampler=fastabx.Subsampler(MAX_GROUP, MAX_ACROSS, seed),
            **conditions,
        )
    except fastabx.EmptyTaskError:
        return math.nan
    score = fastabx.Score(task, "identical" if discrete else "angular", progress=False)
    return float(score.collapse(levels=["speaker"]))
