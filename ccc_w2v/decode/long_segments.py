"""Long recordings in segments: cut between words, where the network hears a pause, searched apart, joined again.

A search remembers every frame since its start, so that its memory grows with the length; segments bound it, and all
cores search one recording. A language model sees each segment as a sentence of its own.

Letters in shapes: T frames, V symbols.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch

from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.hypothesis import Hypothesis

# A stretch of so many segments' lengths without a pause is cut where a blank is most probable.
MOST = 3


def segments_of(parts: Iterable[torch.Tensor], model: CtcModel, frames: int) -> Iterator[torch.Tensor]:
    """Regroup log-probabilities (T, V) into segments of about ``frames`` frames that end in a pause between two words.

    The pause is the longest one in the second half of what has come. No segment is longer than MOST times ``frames``
    and the longest part together.
    """
    waiting: torch.Tensor | None = None
    for part_TV in parts:
        waiting = part_TV if waiting is None else torch.cat([waiting, part_TV])
        while len(waiting) >= frames:
            cut = _pause(waiting, model, frames // 2)
            if cut is None and len(waiting) >= MOST * frames:
                cut = frames // 2 + 1 + int(waiting[frames // 2 + 1 :, model.blank].argmax())
            if cut is None:
                break
            yield waiting[:cut]
            waiting = waiting[cut:]
    if waiting is not None and len(waiting):
        yield waiting


def _pause(log_probs_TV: torch.Tensor, model: CtcModel, first: int) -> int | None:
    """Return a frame after ``first`` in the longest pause between two words, None where there is none."""
    best = [model.labels[index] for index in log_probs_TV.argmax(dim=-1).tolist()]
    pauses = [
        (stop - start, max((start + stop) // 2, ended, first + 1))
        for start, stop, ended in _pauses(best, model)
        if max(ended, first + 1) <= stop
    ]
    return max(pauses)[1] if pauses else None


def _pauses(best: Sequence[str], model: CtcModel) -> Iterator[tuple[int, int, int]]:
    """Give each pause's first frame, the one after its last, and from which on the word before it has ended."""
    letters = model.post_process == "letter"
    silent = {model.labels[model.blank], *([model.boundary] if letters else [])}
    for quiet, run in itertools.groupby(range(len(best)), key=lambda frame: best[frame] in silent):
        if not quiet:
            continue
        frames = list(run)
        start, stop = frames[0], frames[-1] + 1
        if start == 0:  # the segment before ended here
            yield start, stop, start
        elif letters:
            # Blanks alone may also stand between two letters of a word.
            if model.boundary in best[start:stop]:
                yield start, stop, best.index(model.boundary, start) + 1
        elif stop < len(best) and best[stop].startswith(model.boundary):
            yield start, stop, start


def joined(segments: Sequence[tuple[float, Sequence[Hypothesis]]]) -> list[Hypothesis]:
    """Join the segments' hypotheses, each segment given with its start in seconds; best first.

    Scores add up; there are as many hypotheses as the segment with most of them has.
    """
    most = max(len(hypotheses) for _, hypotheses in segments)
    whole = [Hypothesis([], 0.0, 0.0, 0.0)]
    for start, hypotheses in segments:
        later = [_later(hypothesis, start) for hypothesis in hypotheses]
        best = heapq.nlargest(most, itertools.product(whole, later), key=lambda pair: pair[0].total + pair[1].total)
        whole = [
            Hypothesis(
                left.words + right.words,
                left.acoustic + right.acoustic,
                left.lm + right.lm,
                left.total + right.total,
            )
            for left, right in best
        ]
    return whole


def _later(hypothesis: Hypothesis, seconds: float) -> Hypothesis:
    words = [dataclasses.replace(word, start=word.start + seconds) for word in hypothesis.words]
    return dataclasses.replace(hypothesis, words=words)
