"""fairseq reads batches ahead in a daemon thread, which must be still when the interpreter ends.

A thread that is inside torch then aborts the process ("terminate called without an active exception"), so that a
training whose work is done or whose error is said ends with signal 6.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from typing import Any

# A batch that is being read is waited for, but not one that never comes.
PATIENCE_S = 30.0


def end_reading_ahead() -> None:
    """Let the threads that read ahead end before the interpreter does; harmless when called again."""
    atexit.unregister(_end)
    atexit.register(_end)


def _end() -> None:
    from fairseq.data.iterators import BackgroundConsumer

    threads: list[Any] = [thread for thread in threading.enumerate() if isinstance(thread, BackgroundConsumer)]
    for thread in threads:
        thread._max_len = 0  # the batch that it is at is its last
    give_up = time.monotonic() + PATIENCE_S
    for thread in threads:
        while thread.is_alive() and time.monotonic() < give_up:
            try:
                thread._queue.get(timeout=0.05)  # a full queue would hold it for ever
            except queue.Empty:
                continue
        thread.join(max(0.0, give_up - time.monotonic()))
