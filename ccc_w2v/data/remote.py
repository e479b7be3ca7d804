"""Bytes from a network: ranges of a file by its address (https, s3, gs ...), with a time limit and bounded retries.

The protocols are fsspec's, so are credentials and settings (its environment variables, ~/.config/fsspec, ~/.aws).
"""

from __future__ import annotations

import functools
import io
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import sync

from ccc_w2v.errors import InputError

BLOCK = 8 << 20  # bytes asked for at a time
PAUSE_SECONDS = 0.5  # before the second attempt; twice as long before each further one
LONGEST_PAUSE_SECONDS = 30.0
# Answers that a further attempt does not change: forbidden, not there, a range that does not exist.
FINAL_STATUS = frozenset({401, 403, 404, 405, 410, 416})
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What identifies a version of a file, of all that a server may say of it.
_VERSION = ("size", "ETag", "LastModified", "Last-Modified", "Content-MD5", "Digest", "md5Hash", "generation", "mtime")


class UnreachableError(InputError):
    """A server that does not answer, or not wholly, after all attempts: the data may be sound."""


@dataclass(frozen=True)
class Patience:
    """How long a request of up to BLOCK bytes may take, in seconds, and how often it is made."""

    timeout: float = 30.0
    attempts: int = 5


PATIENCE = Patience()


def is_address(path: str | Path) -> bool:
    """Tell whether a path is an address on a network, "https://..."."""
    return bool(_ADDRESS.match(str(path)))


def read_range(url: str, start: int, length: int, patience: Patience = PATIENCE) -> bytes:
    """Return ``length`` bytes of a file from ``start``.

    Raises UnreachableError if that fails ``patience.attempts`` times, and InputError for what no further attempt
    changes: a file that is not there or forbidden, a server without range requests, a protocol that is not installed.
    """
    parts = [
        _read_block(url, at, min(BLOCK, start + length - at), patience) for at in range(start, start + length, BLOCK)
    ]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_all(url: str, patience: Patience = PATIENCE) -> bytes:
    """Return a whole file; raises as read_range does."""
    return read_range(url, 0, int(version(url, patience)["size"]), patience)


def version(url: str, patience: Patience = PATIENCE) -> dict[str, Any]:
    """Return a file's size in bytes, "size", and what else its server tells to know its version by.

    Raises as read_range does, and InputError where the server tells no size.
    """
    about = _patiently(url, "_info", {}, patience)
    if about.get("size") is None:
        raise InputError(f"{url}: its server does not tell the file's size; serve it with Content-Length")
    return {name: about[name] if name == "size" else str(about[name]) for name in _VERSION if name in about}


def matches(pattern: str, patience: Patience = PATIENCE) -> list[str]:
    """Return the addresses that match a pattern with *, ? or [], sorted; raises as read_range does."""
    protocol = pattern.partition("://")[0]
    paths = _patiently(pattern, "_glob", {}, patience)
    return sorted(path if is_address(path) else f"{protocol}://{path}" for path in paths)


def _read_block(url: str, start: int, length: int, patience: Patience) -> bytes:
    if not length:
        return b""

    def whole(content: bytes) -> None:
        if len(content) > length:
            raise InputError(
                f"{url}: its server sends {len(content)} bytes where {length} were asked for; it has to "
                "answer range requests"
            )
        if len(content) < length:
            raise EOFError(f"{len(content)} of {length} bytes from {start}")

    return _patiently(url, "_cat_file", {"start": start, "end": start + length}, patience, whole)


def _patiently(url: str, call: str, arguments: dict[str, Any], patience: Patience, check: Any = None) -> Any:
    """Make a call of a file system until it succeeds and passes ``check``, as often as patience lasts."""
    for attempt in range(1, patience.attempts + 1):
        try:
            answer = _call(url, call, arguments, patience)
            if check is not None:
                check(answer)
            return answer
        except InputError:
            raise
        except ImportError as error:
            raise InputError(f"{url}: {error}; pip install 'ccc-w2v[streams]', or what this protocol needs") from error
        except Exception as error:  # each protocol's client has errors of its own
            if final := _final(error):
                raise InputError(f"{url}: {final}; check the address and the credentials") from error
            cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
            reason = " ".join(f"{type(cause).__name__} {cause}".split())[:300]
            if attempt == patience.attempts:
                raise UnreachableError(
                    f"{url}: cannot be read after {attempt} attempt{'s' * (attempt > 1)} of up to "
                    f"{patience.timeout:g} s ({reason}); try again once the server answers, or raise "
                    "task.stream_timeout and task.stream_attempts"
                ) from error
        _pause(attempt)
    raise AssertionError("at least one attempt")


def _final(error: Exception) -> str:
    """Return why no further attempt would do better; "" where one might."""
    if isinstance(error, PermissionError):
        return "access is denied"
    if isinstance(error, FileNotFoundError):
        cause = error.__cause__
        # fsspec says so of an https server that does not answer, too.
        passes = isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] in ("aiohttp", "asyncio")
        return _final(cause) if passes and isinstance(cause, Exception) else "no such file on its server"
    status = getattr(error, "status", None)
    if status in (404, 410):
        return "no such file on its server"
    return f"its server refuses (status {status})" if status in FINAL_STATUS else ""


def _pause(attempt: int) -> None:
    # Workers that a server has refused together do not come back together.
    spread = 1 + os.getpid() % 16 / 16
    time.sleep(min(PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS) * spread)


def _call(url: str, call: str, arguments: dict[str, Any], patience: Patience) -> Any:
    system = _file_system(url.partition("://")[0], patience.timeout, os.getpid())
    path = system._strip_protocol(url)
    if system.async_impl:
        return sync(system.loop, getattr(system, call), path, timeout=patience.timeout, **arguments)
    return getattr(system, call.removeprefix("_"))(path, **arguments)


@functools.lru_cache(maxsize=16)
def _file_system(protocol: str, timeout: float, process: int) -> Any:
    """Return a protocol's file system; a forked process has its own, since connections cannot be shared."""
    options: dict[str, Any] = {}
    if protocol in ("http", "https"):
        import aiohttp

        # Also within a request whose own limit has passed, a connection must not stay.
        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=timeout)}
    # What a server holds is asked anew each time.
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False, **options)
    except ValueError as error:
        raise InputError(f"{protocol}://: not a protocol that fsspec knows ({error})") from error


class RemoteFile(io.RawIOBase):
    """A file on a network to seek and read in, a block at a time."""

    def __init__(self, url: str, size: int, patience: Patience = PATIENCE) -> None:
        self.url, self.size, self.patience = url, size, patience
        self._at, self._start, self._block = 0, 0, b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be jumped in."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Jump, without a request."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what is left of the current block, or of the next one."""
        if self._at >= self.size:
            return 0
        if not self._start <= self._at < self._start + len(self._block):
            self._start = self._at
            self._block = read_range(self.url, self._at, min(BLOCK, self.size - self._at), self.patience)
        part = self._block[self._at - self._start :][: len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)
