"""Text that a user hands in, read as UTF-8 with or without a byte-order mark; what is no text is one clear sentence.

A name that ends in .gz is decompressed.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ccc_w2v.errors import InputError


def text_lines(path: str | Path, what: str, expected: str) -> Iterator[str]:
    """Yield the lines of a text file without their ends, one by one, so that a text may be larger than memory.

    ``what`` is what the file is for ("manifest"), ``expected`` what its lines hold. A line ends with a newline, and
    with nothing else that Unicode counts as one. Raises InputError for a file that is missing, a folder, unreadable or
    no UTF-8 text.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {what}; expected {expected}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a {what}: {expected}")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise InputError(f"{path}:{number}: not text (a zero byte), expected a {what}: {expected}")
                yield line.removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text ({error.reason}), expected a {what}: {expected}; name another file or convert it"
        ) from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}), expected a {what}: {expected}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a {what}") from error


def read_lines(path: str | Path, what: str, expected: str) -> list[str]:
    """Return all lines of a text file; see text_lines."""
    return list(text_lines(path, what, expected))


def read_yaml(path: str | Path, what: str, expected: str) -> Any:
    """Return the content of a YAML file; raises InputError as text_lines does, and for what is no YAML."""
    try:
        return yaml.safe_load("\n".join(text_lines(path, what, expected)))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
