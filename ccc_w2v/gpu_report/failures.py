"""What is kept of a failure: the line that says what happened, for a table, and its last lines, for the JSON."""

from __future__ import annotations

import re

# How this project, Python and torch name a cause, whatever stands before it: warnings, output, other tracebacks.
CAUSE = re.compile(r"(?:error|[\w.]*(?:Error|Exception|Exit)): \S")
LINES, COLUMNS, SHORT = 80, 400, 300


def in_short(message: str) -> str:
    """Return the last line of a message that names a cause; else, or if that is its first, how it begins."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line for line in lines[1:] if CAUSE.match(line)]
    return (causes[-1] if causes else "; ".join(lines[:4]))[:SHORT]


def last_lines(text: str) -> list[str]:
    """Return the last 80 lines of a text, each cut at 400 characters."""
    return [line[:COLUMNS] for line in text.rstrip().splitlines()[-LINES:]]


def reason_of(error: BaseException) -> str:
    """Return what kind of error it is and the line of its message that says why, for a table."""
    return f"{type(error).__name__}: {in_short(str(error)) or 'no message'}"
