"""Read what fairseq logs with `common.log_format=json`: one JSON object in each line of statistics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

# hydra writes "[time][train_inner][INFO] - {...}", fairseq alone "time | INFO | train_inner | {...}".
_STATISTICS = re.compile(r"(?:\]\[(?P<hydra>\w+)\]\[INFO\] - |\| INFO \| (?P<plain>\w+) \| )(?P<json>\{.*\})\s*$")


def parse_line(line: str) -> tuple[str, dict[str, float]] | None:
    """Return (tag, values) of one line of statistics, None for any other line.

    The tag says what was measured: "train_inner", "train" or a validation subset. Values that are not numbers are
    left out, and the tag is taken off the names that it precedes ("train_loss").
    """
    match = _STATISTICS.search(line)
    if not match:
        return None
    try:
        record = json.loads(match["json"])
    except json.JSONDecodeError:
        return None
    tag = match["hydra"] or match["plain"]
    numbers = {name.removeprefix(f"{tag}_"): _number(value) for name, value in record.items()}
    return tag, {name: number for name, number in numbers.items() if number is not None}


def read_records(lines: Iterable[str], tag: str) -> Iterator[dict[str, float]]:
    """Yield the values of every line of statistics with this tag, oldest first."""
    for line in lines:
        parsed = parse_line(line)
        if parsed and parsed[0] == tag:
            yield parsed[1]


def _number(value: object) -> float | None:
    if not isinstance(value, (str, int, float)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
