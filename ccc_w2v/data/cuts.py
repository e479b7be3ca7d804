"""Which part of which recording an utterance is: lines of "utterance recording channel start end", times in seconds.

Evaluation audio is cut by the reference's segments, a little wider; this file leads back to the recordings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.data.stm import nist_lines, seconds
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole


@dataclass(frozen=True)
class Cut:
    """An utterance's place in its recording, in seconds."""

    utterance: str
    recording: str
    channel: str
    start: float
    end: float


def read_cuts(path: str | Path) -> dict[str, Cut]:
    """Read a file of cuts into a dictionary by utterance id, in file order.

    Raises InputError for a file that is missing, no UTF-8, with Windows line ends or empty, for a malformed line, for a
    cut without length and for an id that comes twice.
    """
    cuts: dict[str, Cut] = {}
    for number, line in nist_lines(path, "segments"):
        if not line.strip():
            continue
        where, fields = f"{path}:{number}", line.split()
        if len(fields) != 5:
            raise InputError(f"{where}: expected utterance recording channel start end, found {line.strip()!r}")
        start, end = (seconds(field, where) for field in fields[3:])
        if end <= start:
            raise InputError(f"{where}: the utterance ends at {end:g} s, it starts at {start:g} s; correct the times")
        if fields[0] in cuts:
            raise InputError(f"{where}: utterance {fields[0]!r} is there already; remove one")
        utterance, recording, channel = fields[:3]
        cuts[utterance] = Cut(utterance, recording, channel, start, end)
    if not cuts:
        raise InputError(f"{path}: holds no utterance; expected lines of utterance recording channel start end")
    return cuts


def write_cuts(path: str | Path, cuts: Iterable[Cut]) -> None:
    """Write a file of cuts, times to the millisecond; the file appears whole or not at all."""
    lines = (f"{cut.utterance} {cut.recording} {cut.channel} {cut.start:.3f} {cut.end:.3f}\n" for cut in cuts)
    write_whole(path, "".join(lines))
