"""Errors that a user can fix: one sentence each, and exit code 2 from the tools.

Everything else (an assertion, a KeyError) is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# torch's words, for a GPU and for a CPU.
_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(ValueError):
    """What was found, where, what was expected and what to do, in one line."""


def cannot_write(path: object, error: OSError) -> InputError:
    """Return the line that says that ``path`` cannot be written, and why."""
    remedy = "free some space" if error.errno in DISK_FULL else "name a folder that can be written"
    return InputError(f"{path}: cannot be written ({error.strerror}); {remedy}")


# fairseq imports this module with its tasks, and it takes a Ctrl-C for a missing dependency ("except BaseException").
_SWALLOWS_CTRL_C = os.path.join("fairseq", "tasks", "simultaneous_translation.py")
INTERRUPTED = "interrupted; the same command continues where it stopped"


@contextmanager
def ctrl_c_is_heard(heard: list[int]) -> Iterator[None]:
    """Let Ctrl-C end the process also while fairseq is imported; ``heard`` gets the signal's number."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        inner = frame
        while inner is not None:
            if inner.f_code.co_filename.endswith(_SWALLOWS_CTRL_C):
                print(f"\n{INTERRUPTED}", file=sys.stderr, flush=True)
                os._exit(130)  # nothing was begun
            inner = inner.f_back
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, that of the machine or of a GPU."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))


def explain(error: BaseException) -> str | None:
    """Return the line for an error that a user can fix; None for every other, which keeps its traceback."""
    message = None
    if isinstance(error, InputError):
        message = str(error)
    elif isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        message = f"{error.filename}: {error.strerror}"
    elif isinstance(error, OSError) and error.errno in (*DISK_FULL, errno.EROFS):
        message = str(cannot_write(error.filename or "the output", error))
    elif is_out_of_memory(error):
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        message = f"out of memory ({reason:.200}); use smaller batches or shorter audio, or a machine with more memory"
    return None if message is None else " ".join(message.split())


def exit_on_input_error(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a tool's ``main``: an InputError or an OS error about a file is one line on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> int:
        heard: list[int] = []
        try:
            with ctrl_c_is_heard(heard):
                code = main(*args, **kwargs) or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            # `| head` has seen enough. Python would complain once more when it closes the pipe at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except KeyboardInterrupt:
            print(f"\n{INTERRUPTED}", file=sys.stderr)
            return 130
        except Exception as error:
            if heard:  # a compiled module that is interrupted while it is imported says something else
                print(f"\n{INTERRUPTED}", file=sys.stderr)
                return 130
            message = explain(error)
            if message is None:
                raise
        print(f"error: {message}", file=sys.stderr)
        return 2

    return wrapped


def end_training(message: str, code: int = 2) -> NoReturn:
    """End this process of a training with one line, which names its rank, and an exit code.

    recipes/launch/ranks.sh repeats the first rank's line after torchrun's report and ends with its code: it names a
    file for that in CCC_W2V_FAILURE.
    """
    rank, world = _rank()
    line = f"error: {f'rank {rank}: ' if world > 1 else ''}{' '.join(message.split())}"
    print(line, file=sys.stderr, flush=True)
    if failure := os.environ.get("CCC_W2V_FAILURE"):
        with open(failure, "a") as file:
            file.write(f"{code} {line}\n")
    raise SystemExit(code)


def _rank() -> tuple[int, int]:
    """Return this process's rank and the number of processes: torch's, else what torchrun has announced."""
    distributed = sys.modules.get("torch.distributed")  # tools start without torch
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End a training process with one line and exit code 2: hydra would print a page of its own calls around it."""
    try:
        yield
    except InputError as error:
        end_training(str(error))
