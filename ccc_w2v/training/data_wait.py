"""How much of a training's time is spent waiting for data, and what to do when it is much."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

SHARE = 0.05
HINT_SECONDS = 60.0


class WaitClock:
    """Adds up the seconds spent inside the iterators that it watches; ``now`` is the clock (seconds)."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.waited = 0.0
        self.began = now()
        self.since_hint = [0.0, 0.0]

    def watch(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Return an iterator of the same items, and with the same further methods, whose waiting counts."""
        return _Watched(iterator, self)

    def restart(self) -> None:
        """Leave out the time since the last lap, which was no training: the start, a validation."""
        self.waited, self.began = 0.0, self.now()

    def lap(self) -> tuple[float, float]:
        """Return the seconds waited and the seconds passed since the last call."""
        now = self.now()
        lap = (self.waited, now - self.began)
        self.waited, self.began = 0.0, now
        self.since_hint = [total + part for total, part in zip(self.since_hint, lap, strict=True)]
        return lap

    def hint(self, device: str, workers: int) -> str | None:
        """Say once in a minute of training what to do, if more than 5 % of it was waited away; else return None."""
        waited, passed = self.since_hint
        if passed < HINT_SECONDS:
            return None
        self.since_hint = [0.0, 0.0]
        if waited <= SHARE * passed:
            return None
        gpu = " or move the augmentation to the GPU (task.augment_device=gpu)" if device == "cpu" else ""
        return (
            f"{waited / passed:.0%} of the time is spent waiting for data: raise dataset.num_workers (now {workers})"
            f"{gpu}; `ccc-w2v benchmark loader` shows what a worker can do"
        )


class _Watched:
    def __init__(self, iterator: Iterator[Any], clock: WaitClock) -> None:
        self.iterator, self.clock = iterator, clock

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        began = self.clock.now()
        try:
            return next(self.iterator)
        finally:
            self.clock.waited += self.clock.now() - began

    def __getattr__(self, name: str) -> Any:
        return getattr(self.iterator, name)


def watch_batches(epoch_iterator: Any, clock: WaitClock) -> None:
    """Let a clock time how long a training waits for the batches of fairseq's epoch iterator; harmless when repeated.

    fairseq says only that its buffer is nearly empty, once in some minutes, and has no place to ask for the time.
    """
    make = epoch_iterator._get_iterator_for_epoch
    if hasattr(make, "__wrapped__"):
        return

    @functools.wraps(make)
    def watched(*args: Any, **kwargs: Any) -> Any:
        batches = make(*args, **kwargs)
        if batches is not None:
            batches._itr = clock.watch(batches._itr)
        return batches

    epoch_iterator._get_iterator_for_epoch = watched
