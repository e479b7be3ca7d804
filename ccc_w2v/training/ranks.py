"""The end of a training of several processes: each leaves its process group before it exits.

fairseq never does. gloo's threads then still run while the interpreter and the libraries below them are taken down, and
now and then a process that has done all of its work ends in SIGABRT.
"""

from __future__ import annotations

import atexit
import functools
import sys
from typing import Any

import torch.distributed as distributed

from ccc_w2v.training.stopping import EXIT_CODES


@functools.cache
def leave_process_group() -> None:
    """Let a training process destroy its process group as it exits, whichever way a launcher started it.

    After an error in the middle of an epoch NCCL's groups are left alone: to destroy one waits for collectives that the
    other ranks are not going to join, and the launcher is to hear of the error now.
    """
    # Only the training command imports it; importing it elsewhere would turn on its log.
    training: Any = sys.modules.get("fairseq_cli.train")
    if training is None:
        return
    train, in_epoch = training.train, []

    @functools.wraps(train)
    def train_epoch(*args: Any, **kwargs: Any) -> Any:
        in_epoch.append(True)
        try:
            result = train(*args, **kwargs)
        except SystemExit as leaving:
            if leaving.code in EXIT_CODES.values():  # all ranks have agreed to stop
                in_epoch.clear()
            raise
        in_epoch.clear()
        return result

    def leave() -> None:
        if not distributed.is_available() or not distributed.is_initialized():
            return
        if not in_epoch or distributed.get_backend() == "gloo":
            distributed.destroy_process_group()

    training.train = train_epoch
    # Not at the end of fairseq's main(): its caller still makes all ranks wait for each other.
    atexit.register(leave)
