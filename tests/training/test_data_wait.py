import pytest

from ccc_w2v.training.data_wait import WaitClock


class Time:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Slow:
    """Batches that take some seconds each."""

    def __init__(self, time, seconds):
        self.time, self.seconds, self.taken = time, seconds, None

    def __next__(self):
        self.time.seconds += self.seconds
        return "batch"

    def take(self, count):
        self.taken = count


def train(wait, step, updates):
    """Return the last lap and every hint of a training of so many updates."""
    time = Time()
    clock = WaitClock(time)
    batches, hints = clock.watch(Slow(time, wait)), []
    for _ in range(updates):
        assert next(batches) == "batch"
        time.seconds += step
        lap = clock.lap()
        hints.append(clock.hint("cpu", 2))
    return lap, [hint for hint in hints if hint]


def test_a_lap_tells_waiting_from_training():
    lap, hints = train(wait=1.0, step=3.0, updates=3)
    assert lap == pytest.approx((1.0, 4.0))
    assert hints == []


def test_the_hint_comes_once_a_minute_and_only_above_5_percent():
    _, hints = train(wait=1.0, step=3.0, updates=32)  # 128 seconds
    assert len(hints) == 2
    assert hints[0].startswith("25% of the time is spent waiting for data: raise dataset.num_workers")
    assert "task.augment_device=gpu" in hints[0]
    assert train(wait=0.05, step=1.0, updates=150)[1] == []
    assert len(train(wait=0.06, step=1.0, updates=150)[1]) == 2


def test_the_watched_iterator_keeps_its_other_methods_and_ends():
    time = Time()
    slow = Slow(time, 1.0)
    WaitClock(time).watch(slow).take(7)
    assert slow.taken == 7
    assert list(WaitClock(time).watch(iter([1, 2]))) == [1, 2]
