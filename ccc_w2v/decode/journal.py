"""What has been decoded so far, a line for each utterance: an interrupted decoding resumes after its last line."""

from __future__ import annotations

import json
import os
from dataclasses import astuple
from pathlib import Path
from typing import Any, TextIO

from ccc_w2v.decode.hypothesis import Hypothesis, Word
from ccc_w2v.errors import InputError
from ccc_w2v.files import complete_lines, write_whole


def open_journal(path: Path, identity: dict[str, str]) -> tuple[dict[str, list[Hypothesis]], TextIO]:
    """Return the hypotheses that a journal of this ``identity`` holds, and the journal, open for more lines.

    Raises InputError for a journal of another identity and for a file that is none.
    """
    complete = complete_lines(path)
    hypotheses: dict[str, list[Hypothesis]] = {}
    try:
        header, *lines = [json.loads(line) for line in complete.splitlines()] or [identity]
        hypotheses = {line["id"]: list(map(_from_line, line["hypotheses"])) for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a journal of this tool ({error}); give --overwrite to decode from the start"
        ) from error
    if header != identity:
        raise InputError(
            f"{path}: an unfinished decoding of another checkpoint, manifest, precision, window or search; give "
            "--overwrite to give it up, or choose another output folder"
        )
    if not complete:
        write_whole(path, json.dumps(identity) + "\n")
    else:
        os.truncate(path, len(complete))  # the utterance of half a line is decoded again
    return hypotheses, open(path, "a", encoding="utf-8")


def journal_identity(path: Path) -> dict[str, str] | None:
    """Return the identity in a journal's first line; None where there is no whole line or none of a journal."""
    try:
        with open(path, encoding="utf-8") as lines:
            identity = json.loads(lines.readline())
    except (OSError, ValueError):
        return None
    return identity if isinstance(identity, dict) else None


def add_line(journal: TextIO, utterance: str, hypotheses: list[Hypothesis]) -> None:
    """Add an utterance's hypotheses, best first; a kill after this loses nothing of them."""
    line = {"id": utterance, "hypotheses": [_as_line(hypothesis) for hypothesis in hypotheses]}
    journal.write(json.dumps(line, ensure_ascii=False) + "\n")
    journal.flush()


def _as_line(hypothesis: Hypothesis) -> list[Any]:
    return [[astuple(word) for word in hypothesis.words], hypothesis.acoustic, hypothesis.lm, hypothesis.total]


def _from_line(line: list[Any]) -> Hypothesis:
    words, *scores = line
    return Hypothesis([Word(*fields) for fields in words], *scores)
