"""A training that is told to stop leaves after the same update on every rank, with its checkpoint saved.

Cluster managers send SIGUSR1 or SIGTERM some time before they kill, a terminal SIGINT at Ctrl-C. Slurm and the terminal
send it to every process of a job, torchrun to a rank and the data workers that it forked.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
from typing import Any

import torch
import torch.distributed

# Exit codes: 75 of sysexits.h (not an error, the same command resumes), and what a shell makes of Ctrl-C.
EXIT_CODES = {signal.SIGUSR1: os.EX_TEMPFAIL, signal.SIGTERM: os.EX_TEMPFAIL, signal.SIGINT: 128 + signal.SIGINT}
SIGNALS = tuple(EXIT_CODES)
IGNORED = (signal.SIGINT, signal.SIG_IGN)
UNHANDLED = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)


class StopRequest:
    """Whether this process was told to stop; its data workers outlive the signal, for they are needed until the end."""

    def __init__(self) -> None:
        self.code = 0  # the exit code that was asked for
        self._process = os.getpid()
        # Shared with the data workers, which torch ends with SIGTERM where they do not end by themselves.
        self._leaving = multiprocessing.RawValue("b", 0)

    def listen(self) -> None:
        """Note the signals from now on; those that something else (submitit) handles already are left to it."""
        for number in SIGNALS:
            # Ctrl-C is not for a job in the background, which ignores it.
            if signal.getsignal(number) in UNHANDLED and (number, signal.getsignal(number)) != IGNORED:
                signal.signal(number, self._note)
        atexit.register(self.leave)

    def leave(self) -> None:
        """Let SIGTERM end the data workers again, and a signal that is repeated not hit a process that is ending."""
        self._leaving.value = 1
        for number in SIGNALS:
            if signal.getsignal(number) == self._note or number == signal.SIGINT:
                signal.signal(number, signal.SIG_IGN)

    def agreed(self, device: torch.device) -> int:
        """Return the exit code that any rank was told to stop with, 0 for none; every rank must call it."""
        code = torch.tensor([self.code], dtype=torch.int32, device=device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(code, torch.distributed.ReduceOp.MAX)
        return int(code.item())

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() == self._process:
            if number == signal.SIGINT:
                # A second Ctrl-C is Python's own: it does not wait for the update.
                signal.signal(number, signal.default_int_handler)
                # The same Ctrl-C may end who reads this; an error here would end the update without saving.
                with contextlib.suppress(OSError):
                    os.write(2, b"\ninterrupted: saving after this update; Ctrl-C again ends without saving\n")
            self.code = max(self.code, EXIT_CODES[signal.Signals(number)])
        elif number == signal.SIGTERM and self._leaving.value:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
