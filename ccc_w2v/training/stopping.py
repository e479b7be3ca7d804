"""A training that is told to stop leaves after the same update on every rank, with its checkpoint saved.

Cluster managers send SIGUSR1 or SIGTERM some time before they kill. Slurm sends it to every process of a job, torchrun
to a rank and the data workers that it forked.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from typing import Any

import torch
import torch.distributed

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
EXIT_CODE = os.EX_TEMPFAIL  # 75 of sysexits.h: not an error, the same command goes on


class StopRequest:
    """Whether this process was told to stop; its data workers outlive the signal, for they are needed until the end."""

    def __init__(self) -> None:
        self.told = False
        self._process = os.getpid()
        # Shared with the data workers, which torch ends with SIGTERM where they do not end by themselves.
        self._leaving = multiprocessing.RawValue("b", 0)

    def listen(self) -> None:
        """Note the signals from now on; those that something else (submitit) handles already are left to it."""
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.SIG_IGN):
                signal.signal(number, self._note)
        atexit.register(self.leave)

    def leave(self) -> None:
        """Let SIGTERM end the data workers again, and a signal that is repeated not hit a process that is ending."""
        self._leaving.value = 1
        for number in SIGNALS:
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.SIG_IGN)

    def agreed(self, device: torch.device) -> bool:
        """Tell whether any rank was told to stop; every rank must call it after the same update."""
        told = torch.tensor([self.told], dtype=torch.int32, device=device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        return bool(told.item())

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() == self._process:
            self.told = True
        elif number == signal.SIGTERM and self._leaving.value:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
