"""Errors that a user can mend: one sentence each, and exit code 2 from the tools.

Everything else (an assertion, a KeyError) is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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
def ctrl_c_is_heard() -> Iterator[None]:
    """Let Ctrl-C end the process also while fairseq is imported."""

    def interrupt(number: int, frame: FrameType | None) -> None:
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


def exit_on_input_error(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a tool's ``main``: an InputError or an OS error about a file is one line on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> int:
        try:
            with ctrl_c_is_heard():
                code = main(*args, **kwargs) or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            # `| head` has seen enough. Python would complain once more when it closes the pipe at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except InputError as error:
            message = str(error)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
            message = f"{error.filename}: {error.strerror}"
        except OSError as error:
            if error.errno not in (*DISK_FULL, errno.EROFS):
                raise
            message = str(cannot_write(error.filename or "the output", error))
        except KeyboardInterrupt:
            print(f"\n{INTERRUPTED}", file=sys.stderr)
            return 130
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return 2

    return wrapped


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End a training process with one line and exit code 2: hydra would print a page of its own calls around it."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
