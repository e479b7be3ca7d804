"""Searches in processes of their own, so that all cores search while the network computes the next batch.

Processes, because flashlight's decoder keeps Python's lock for a whole utterance: threads would take turns.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

from ccc_w2v.decode.hypothesis import Hypothesis, Search
from ccc_w2v.errors import InputError

# The network's threads wait for each other, a search for nobody: where both want a core, the network goes first.
NICENESS = 10

# For each search process, so many segments may wait for it: enough work for all during a batch, and a bound on memory.
WAITING = 8

T = TypeVar("T")
# Takes log-probabilities (T, V) and returns at once.
Submit = Callable[[torch.Tensor], "Future[list[Hypothesis]]"]

_search: Search | None = None


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def searching(search: Search, processes: int) -> Iterator[Submit]:
    """Give a function that starts ``search`` in one of ``processes``; with none of them it searches at once, here.

    The processes are forked: they share the memory of the lexicon and the language model with this one, and start at
    once. They run one thread each, never touch a GPU, and end with this process however it ends. An utterance's result
    does not depend on their number. Raises InputError where the system kills one of them.
    """
    if processes < 0:
        raise InputError(f"{processes} search processes; expected a number of 0 or more")
    if processes == 0:
        yield lambda log_probs_TV: _done(search(log_probs_TV))
        return
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, context, _start_searcher, (search,))
    try:
        # Fork now: once the network's threads run, one of them may hold a lock that a child would wait for. Ctrl-C is
        # kept until the children ignore it: one that it ended would look as if the system had killed it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            pool.submit(os.getpid).result()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        # An array travels through a pipe; torch would open a file of shared memory for each tensor.
        yield lambda log_probs_TV: pool.submit(_search_array, log_probs_TV.numpy())
    except BrokenProcessPool as error:
        raise InputError(
            "a search process was killed, most often for want of memory; use fewer (--search-processes) or a narrower "
            "beam, and the same command resumes where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def searched(
    segments: Iterable[tuple[T, torch.Tensor]], search: Search, processes: int
) -> Generator[tuple[T, list[Hypothesis]], None, None]:
    """Give what ``search`` finds in log-probabilities (T, V), each with its name, in the order of ``segments``.

    ``segments`` is asked for more while searches run; close this generator to end their processes early. Raises
    InputError as searching does.
    """
    with searching(search, processes) as submit:
        yield from in_order(((name, submit(log_probs_TV)) for name, log_probs_TV in segments), WAITING * processes)


def in_order(started: Iterable[tuple[T, Future[list[Hypothesis]]]], most: int) -> Iterator[tuple[T, list[Hypothesis]]]:
    """Give the results in the order in which they were started, at most ``most`` of them being unfinished at once."""
    waiting: deque[tuple[T, Future[list[Hypothesis]]]] = deque()
    for search in started:
        waiting.append(search)
        while waiting and (waiting[0][1].done() or len(waiting) > most):
            name, future = waiting.popleft()
            yield name, future.result()
    for name, future in waiting:
        yield name, future.result()


def _done(hypotheses: list[Hypothesis]) -> Future[list[Hypothesis]]:
    future: Future[list[Hypothesis]] = Future()
    future.set_result(hypotheses)
    return future


def _start_searcher(search: Search) -> None:
    global _search
    _search = search
    # What was inherited is not looked at again: that would copy its memory page by page.
    gc.freeze()
    # OpenMP's threads do not survive a fork: with one thread torch starts none.
    torch.set_num_threads(1)
    # Ctrl-C goes to every process; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _search_array(log_probs_TV: np.ndarray) -> list[Hypothesis]:
    assert _search is not None
    return _search(torch.from_numpy(log_probs_TV))
