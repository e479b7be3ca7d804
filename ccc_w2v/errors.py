"""Errors that a user can mend: one sentence each, and exit code 2 from the tools.

Everything else (an assertion, a KeyError) is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(ValueError):
    """What was found, where, what was expected and what to do, in one line."""


def cannot_write(path: object, error: OSError) -> InputError:
    """Return the line that says that ``path`` cannot be written, and why."""
    remedy = "free some space" if error.errno in _DISK_FULL else "name a folder that can be written"
    return InputError(f"{path}: cannot be written ({error.strerror}); {remedy}")


def exit_on_input_error(main: Callable[..., int | None]) -> Callable[..., int]:
    """Wrap a tool's ``main``: an InputError or an OS error about a file is one line on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> int:
        try:
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
            if error.errno not in (*_DISK_FULL, errno.EROFS):
                raise
            message = str(cannot_write(error.filename or "the output", error))
        except KeyboardInterrupt:
            print("\ninterrupted; the same command continues where it stopped", file=sys.stderr)
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
