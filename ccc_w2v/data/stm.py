"""NIST's time-marked formats: .stm references and .ctm hypotheses; the only code that knows them.

An .stm line is a segment, "recording channel speaker start end [<LABEL,...>] words"; a .ctm line is a word, "recording
channel start duration word [confidence]". Times are in seconds; lines that start with ";;" are comments.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.text_files import text_lines

# Text of a segment that is not scored: neither its words nor what the hypothesis says in its time.
IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
# More fields than a ctm line has, as in the extended format with a word's type and speaker.
_CTM_FIELDS = (5, 8)
_LABELS = re.compile(r"<(\S+)>")
_DEFINITION = re.compile(r';;\s*(CATEGORY|LABEL)\s+"([^"]*)"\s+"([^"]*)"\s+"([^"]*)"\s*')


@dataclass(frozen=True)
class Segment:
    """A stretch of one channel with what is said in it; ``line`` is its line in the file, 0 where it has none."""

    recording: str
    channel: str
    speaker: str
    start: float
    end: float
    labels: tuple[str, ...]
    text: str
    line: int = 0

    @property
    def ignored(self) -> bool:
        """Whether the reference says that this time is not scored."""
        return IGNORED in self.text.upper()


@dataclass(frozen=True)
class Definition:
    """What a ";; CATEGORY" or ";; LABEL" comment says: the label's id, a short title and a description."""

    kind: str
    id: str
    title: str
    description: str


@dataclass(frozen=True)
class Stm:
    """An .stm file: where it came from, its definitions and its segments, both in file order."""

    source: str
    definitions: tuple[Definition, ...]
    segments: tuple[Segment, ...]

    def where(self, segment: Segment) -> str:
        """Return "file:line", for error messages."""
        return f"{self.source}:{segment.line}"

    def titles(self) -> dict[str, str]:
        """Return the title of each label that the file defines with one."""
        return {
            definition.id: definition.title
            for definition in self.definitions
            if definition.kind == "LABEL" and definition.title
        }


@dataclass(frozen=True)
class TimedWord:
    """One word of a .ctm file; ``confidence`` None where the line has none, ``line`` 0 where it is in no file."""

    recording: str
    channel: str
    start: float
    duration: float
    word: str
    confidence: float | None = None
    line: int = 0

    @property
    def middle(self) -> float:
        """The time that decides which segment the word belongs to."""
        return self.start + self.duration / 2


def read_stm(path: str | Path) -> Stm:
    """Read an .stm file.

    Raises InputError for a file that is missing, no UTF-8, with Windows line ends or without a segment, and for the
    first malformed line: too few fields, a time that is no number, a segment that ends before it starts.
    """
    segments, definitions = [], []
    for number, line in nist_lines(path, ".stm"):
        if line.startswith(";;"):
            if match := _DEFINITION.fullmatch(line):
                definitions.append(Definition(*match.groups()))
        elif line.strip():
            segments.append(_segment(line, f"{path}:{number}", number))
    if not segments:
        raise InputError(f"{path}: holds no segment; expected lines of recording channel speaker start end words")
    return Stm(str(path), tuple(definitions), tuple(segments))


def _segment(line: str, where: str, number: int) -> Segment:
    fields = line.split(maxsplit=5)
    if len(fields) < 5:
        raise InputError(
            f"{where}: expected recording channel speaker start end [<LABEL,...>] words, found {line.strip()!r}"
        )
    start, end = (seconds(field, where) for field in fields[3:5])
    if end < start:
        raise InputError(f"{where}: the segment ends at {end:g} s before it starts at {start:g} s; correct the times")
    words = fields[5].split() if len(fields) > 5 else []
    match = _LABELS.fullmatch(words[0]) if words else None
    labels = tuple(match[1].split(",")) if match else ()
    recording, channel, speaker = fields[:3]
    return Segment(recording, channel, speaker, start, end, labels, " ".join(words[1:] if match else words), number)


def write_stm(path: str | Path, segments: Iterable[Segment], definitions: Iterable[Definition] = ()) -> None:
    """Write an .stm file, times to the millisecond; the file appears whole or not at all."""
    lines = [
        f';; {definition.kind} "{definition.id}" "{definition.title}" "{definition.description}"\n'
        for definition in definitions
    ]
    for segment in segments:
        labels = f" <{','.join(segment.labels)}>" if segment.labels else ""
        times = f"{segment.start:.3f} {segment.end:.3f}"
        lines.append(
            f"{segment.recording} {segment.channel} {segment.speaker} {times}{labels} {segment.text}".rstrip() + "\n"
        )
    write_whole(path, "".join(lines))


def read_ctm(path: str | Path) -> list[TimedWord]:
    """Read a .ctm file in file order; word type and speaker, where lines have them, are left out.

    Raises InputError for a file that is missing, no UTF-8, with Windows line ends or without a word, for the first
    malformed line, and for alternatives (<ALT>), which no decoder of ours writes.
    """
    words = [
        _timed_word(line, f"{path}:{number}", number)
        for number, line in nist_lines(path, ".ctm")
        if line.strip() and not line.startswith(";;")
    ]
    if not words:
        raise InputError(f"{path}: holds no word; expected lines of recording channel start duration word")
    return words


def _timed_word(line: str, where: str, number: int) -> TimedWord:
    fields = line.split()
    if not _CTM_FIELDS[0] <= len(fields) <= _CTM_FIELDS[1]:
        raise InputError(
            f"{where}: expected recording channel start duration word [confidence], found {line.strip()!r}"
        )
    recording, channel, start, duration, word, *more = fields
    if word.startswith("<ALT"):
        raise InputError(f"{where}: {word} marks alternatives, which are not scored here; write the best word alone")
    unknown = not more or more[0].upper() == "NA"
    confidence = None if unknown else _number(more[0], where, "a confidence")
    return TimedWord(recording, channel, seconds(start, where), seconds(duration, where), word, confidence, number)


def write_ctm(path: str | Path, words: Iterable[TimedWord]) -> None:
    """Write a .ctm file in the order that sclite wants: recording, channel, start; whole or not at all."""
    lines = []
    for word in sorted(words, key=lambda word: (word.recording, word.channel, word.start)):
        confidence = "" if word.confidence is None else f" {word.confidence:.4f}"
        times = f"{word.start:.3f} {word.duration:.3f}"
        lines.append(f"{word.recording} {word.channel} {times} {word.word}{confidence}\n")
    write_whole(path, "".join(lines))


def nist_lines(path: str | Path, kind: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a text file, without line ends; ``kind`` says in errors what was looked for.

    Raises InputError for a file that is missing, a folder or no UTF-8 text, and for a byte-order mark or Windows line
    ends, which NIST's programs would take for a part of the first or last word.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {kind} file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a {kind} file")
    content = path.read_bytes()
    if content.startswith(codecs.BOM_UTF8):
        raise InputError(f"{path}:1: a byte-order mark, which NIST's programs take for text; save the file without it")
    if b"\r" in content:
        number = content[: content.index(b"\r")].count(b"\n") + 1
        raise InputError(f"{path}:{number}: Windows line ends (a carriage return); convert the file with dos2unix")
    yield from enumerate(text_lines(path, f"{kind} file", "NIST's lines"), start=1)


def seconds(field: str, where: str) -> float:
    """Read a time; raises InputError for what is no number, is not finite or is negative."""
    value = _number(field, where, "a time in seconds")
    if value < 0:
        raise InputError(f"{where}: {field!r} is before the recording's start; expected a time in seconds")
    return value


def _number(field: str, where: str, expected: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: expected {expected}, found {field!r}")
    return value
