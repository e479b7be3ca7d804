"""Transcripts of a user's recordings: a TSV or CSV table, or a .txt beside each recording."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.errors import InputError
from ccc_w2v.text_files import read_lines, text_lines

# What the columns of a table may be called; the first line names them.
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "audio", "wav", "recording"),
    "text": ("text", "transcript", "transcription", "sentence", "words", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "spk", "client_id"),
    "split": ("split", "subset", "set"),
    "start": ("start", "start_time", "begin", "onset"),
    "end": ("end", "end_time", "stop", "offset"),
}
SPLITS = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}
EXPECTED = "a line of column names with path and text (speaker, split, start and end are optional)"
APOSTROPHES = "'\u2019\u02bc"
RULES = ("simple", "as-is")


@dataclass(frozen=True)
class TranscribedSegment:
    """A line of a table: a recording, or a part of it in seconds, and what is said there. ``where``: for messages."""

    path: str
    text: str
    where: str
    speaker: str = ""
    split: str = ""
    start: float | None = None
    end: float | None = None


def read_table(path: str | Path) -> list[TranscribedSegment]:
    """Read a table of transcripts: tabs between the fields of a .tsv, commas (with quotes) in a .csv.

    Raises InputError for a file that is missing or no text, column names that lack path or text, and the first line
    that does not fit.
    """
    path = Path(path)
    lines = text_lines(path, "table of transcripts", EXPECTED)
    tabs = path.suffix.lower() != ".csv"
    rows = csv.reader(lines, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
    names = _column_names(next(rows, []), path)
    return [_segment(row, names, f"{path}:{rows.line_num}") for row in rows if any(field.strip() for field in row)]


def _column_names(header: Sequence[str], path: Path) -> dict[str, int]:
    known = {spelling: name for name, spellings in COLUMNS.items() for spelling in spellings}
    names: dict[str, int] = {}
    for index, field in enumerate(header):
        name = known.get(field.strip().lower())
        if name in names:
            raise InputError(f"{path}:1: two columns for the {name}: {header[names[name]]!r} and {field!r}; keep one")
        if name:
            names[name] = index
    for name in ("path", "text"):
        if name not in names:
            raise InputError(
                f"{path}:1: no column for the {name}, found {', '.join(map(repr, header)) or 'an empty line'}; name it "
                f"one of {', '.join(COLUMNS[name])}"
            )
    return names


def _segment(row: Sequence[str], names: dict[str, int], where: str) -> TranscribedSegment:
    if len(row) <= max(names.values()):
        raise InputError(f"{where}: {len(row)} fields, the first line names {max(names.values()) + 1}; complete it")
    fields = {name: row[index].strip() for name, index in names.items()}
    if not fields["path"]:
        raise InputError(f"{where}: the path is empty; complete or remove the line")
    times = [_seconds(fields.get(name, ""), where) for name in ("start", "end")]
    if (times[0] is None) != (times[1] is None) or (times[0] is not None and not 0 <= times[0] < (times[1] or 0)):
        raise InputError(f"{where}: start and end must be seconds, the start before the end")
    split = fields.get("split", "").lower()
    if split and split not in SPLITS:
        raise InputError(f"{where}: unknown split {split!r}; available: {', '.join(SPLITS)}")
    return TranscribedSegment(
        fields["path"], fields["text"], where, fields.get("speaker", ""), SPLITS.get(split, ""), times[0], times[1]
    )


def _seconds(field: str, where: str) -> float | None:
    if not field:
        return None
    try:
        return float(field)
    except ValueError:
        raise InputError(f"{where}: {field!r} is no number of seconds") from None


def beside(recordings: Iterable[Path], root: Path) -> list[TranscribedSegment]:
    """Return the transcripts in files NAME.txt beside recordings NAME.*; their lines are joined."""
    segments = []
    for recording in recordings:
        text = recording.with_suffix(".txt")
        if text.is_file():
            words = " ".join(read_lines(text, "transcript", "the words of the recording of its name"))
            segments.append(TranscribedSegment(recording.relative_to(root).as_posix(), words, str(text)))
    return segments


def normalized(text: str, rules: str) -> str:
    """Return a transcript as labels have it, single spaces between words.

    ``simple``: upper case, without any mark but the apostrophe inside a word, in any script. ``as-is``: unchanged.
    """
    text = unicodedata.normalize("NFC", text)
    if rules == "simple":
        characters = ["'" if character in APOSTROPHES else character for character in text.upper()]
        kept = (
            character if character == "'" or unicodedata.category(character)[0] in "LMN" else " "
            for character in characters
        )
        text = " ".join(word.strip("'") for word in "".join(kept).split())
    return " ".join(text.split())
