"""Several batches at once, each in a thread with cores of its own.

Two utterances on a core each take less time than one after the other on both: the threads of one operation wait for
each other at its end, those of two utterances never do, and one reads its audio while the other computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Batch = TypeVar("Batch")
Result = TypeVar("Result")

# More threads get more cores each, not more batches in memory.
MOST_ON_CPU = 8
# One batch is read while the other is computed.
ON_GPU = 2


def batches_at_once(device: torch.device) -> int:
    """Return how many batches are computed at once on a device."""
    return min(torch.get_num_threads(), MOST_ON_CPU) if device.type == "cpu" else ON_GPU


def compute_ahead(
    compute: Callable[[Batch], Result], batches: Sequence[Batch], at_once: int
) -> Iterator[tuple[Batch, Result]]:
    """Yield each batch and what ``compute`` makes of it, in order, while the next ones are being computed.

    At most ``at_once`` are computed and as many wait to be taken. torch's threads are shared out among them, and are
    the caller's again at the end. An exception in ``compute`` comes out where its batch's result would.
    """
    if at_once == 1:
        yield from ((batch, compute(batch)) for batch in batches)
        return
    threads = torch.get_num_threads()
    # torch keeps the number of threads for each thread, and starts new ones with the latest that was set.
    pool = ThreadPoolExecutor(at_once, "batch", torch.set_num_threads, (max(1, threads // at_once),))
    running: deque[tuple[Batch, Future[Result]]] = deque()
    try:
        for batch in batches:
            running.append((batch, pool.submit(compute, batch)))
            if len(running) == 2 * at_once:
                first, future = running.popleft()
                yield first, future.result()
        while running:
            first, future = running.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
