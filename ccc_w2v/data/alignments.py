"""Forced alignments: which frames and seconds of an utterance hold which letter or phone; a .tsv and its reader.

A row for each label, in the order of time. Frames count from 0 and ``end_frame`` is the first behind the label. A CTC
network marks a label in a frame or two and says blank between, so label_spans gives blank frames to the nearer
label. Letters: T frames.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.text_files import read_lines

NOT_PHONES = ("|", "SIL", "<unk>", "<pad>")  # the end of a word, silence, and what is no label
COLUMNS = ("utterance", "label", "first_frame", "end_frame", "start", "end", "log_prob")


@dataclass(frozen=True)
class AlignedLabel:
    """A label with its frames [first_frame, end_frame), its seconds, and the mean log-probability of its frames."""

    label: str
    first_frame: int
    end_frame: int
    start: float
    end: float
    log_prob: float


Alignments = Mapping[str, Sequence[AlignedLabel]]


def write_alignments(path: str | Path, alignments: Alignments) -> None:
    """Write the labels of each utterance; the file appears whole or not at all."""
    lines = ["\t".join(COLUMNS)]
    lines += [
        f"{utterance}\t{row.label}\t{row.first_frame}\t{row.end_frame}\t{row.start:.3f}\t{row.end:.3f}\t{row.log_prob:.4f}"
        for utterance, rows in alignments.items()
        for row in rows
    ]
    write_whole(path, "".join(f"{line}\n" for line in lines))


def read_alignments(path: str | Path) -> dict[str, list[AlignedLabel]]:
    """Read what write_alignments has written, by utterance. Raises InputError for another file or a malformed line."""
    lines = read_lines(path, "file of alignments", "what ccc-w2v align writes")
    if not lines or tuple(lines[0].split("\t")) != COLUMNS:
        raise InputError(f"{path}:1: expected the columns {', '.join(COLUMNS)}, as ccc-w2v align writes them")
    alignments: dict[str, list[AlignedLabel]] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            utterance, label, first, end, start, stop, log_prob = line.split("\t")
            row = AlignedLabel(label, int(first), int(end), float(start), float(stop), float(log_prob))
        except ValueError:
            raise InputError(f"{path}:{number}: expected {len(COLUMNS)} columns, found {line!r}; align again") from None
        alignments.setdefault(utterance, []).append(row)
    if not alignments:
        raise InputError(f"{path}: holds no label; align a manifest with transcripts")
    return alignments


def label_spans(rows: Sequence[AlignedLabel], frames: int, frame_seconds: float) -> list[tuple[str, int, int]]:
    """Return (label, first frame, end frame) of each label among T frames, those without a frame left out.

    A frame belongs to the label nearest to its middle; between two labels the border is half way. Frames are counted
    from the utterance's start, ``frame_seconds`` apart: those of the aligning network or of another.
    """
    borders = [(left.end + right.start) / 2 for left, right in zip(rows, rows[1:], strict=False)]
    owners = [bisect.bisect_right(borders, (frame + 0.5) * frame_seconds) for frame in range(frames)]
    spans = []
    for index, row in enumerate(rows):
        first, end = bisect.bisect_left(owners, index), bisect.bisect_right(owners, index)
        if first < end:
            spans.append((row.label, first, end))
    return spans


def label_of_frames(rows: Sequence[AlignedLabel], frames: int, frame_seconds: float) -> list[str]:
    """Return the label of each of T frames; see label_spans."""
    return [label for label, first, end in label_spans(rows, frames, frame_seconds) for _ in range(first, end)]
