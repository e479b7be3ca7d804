"""Options that benchmarks share, and numbers on their command lines, checked before anything is measured."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

from ccc_w2v.errors import InputError

Number = TypeVar("Number", int, float)


def add_batch_arguments(parser: argparse.ArgumentParser, *, batches: int) -> None:
    """Declare the size and number of the batches that a round takes; ``batches`` is the default number."""
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a crop (default: 15)")
    parser.add_argument("--batch", type=int, default=6, help="utterances of a batch (default: 6)")
    parser.add_argument("--batches", type=int, default=batches, help=f"batches of a round (default: {batches})")


def numbers(
    option: str, text: str, kind: Callable[[str], Number], least: float, *, optional: bool = False
) -> list[Number]:
    """Read comma-separated numbers of a kind, int or float, in their order, each once.

    Raises InputError for what is no such number or is below ``least``, and for none at all unless they are optional.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() or not optional else []
    wrong = InputError(
        f"{option} {text or repr(text)}: expected {'whole ' * (kind is int)}numbers of at least {least:g}, "
        "separated by commas"
    )
    try:
        values = [kind(word) for word in words]
    except ValueError as error:
        raise wrong from error
    if not all(least <= value < math.inf for value in values):
        raise wrong
    return list(dict.fromkeys(values))


def check_above_zero(args: argparse.Namespace, *names: str) -> None:
    """Raise InputError for the first of these options that is not above 0."""
    for name in names:
        if not 0 < getattr(args, name) < math.inf:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected a number above 0")
