"""A kill in the middle of a preparation: files get their names by os.replace, and one of these never comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest


@contextmanager
def killed_after(writes: int) -> Iterator[None]:
    """Let ``writes`` files get their names and kill what runs inside at the next; fails where it ends before."""
    replace, left = os.replace, iter(range(writes))

    def replace_or_die(*names: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(*names)

    with mock.patch("os.replace", replace_or_die), pytest.raises(KeyboardInterrupt):
        yield
