"""NIST .trn transcripts, one utterance a line, "words (utterance-id)", and the ids of a manifest's utterances."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.slices import slice_of
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.text_files import read_lines

_TRN_LINE = re.compile(r"(?:(?P<text>.*)\s)?\((?P<id>[^()\s]+)\)")


def read_trn(path: str | Path) -> dict[str, str]:
    """Read a .trn file into a dictionary from utterance id to its words, in file order.

    As in sclite, blank lines and lines that start with ";;" say nothing. Words are compared as they stand (sclite -s).
    Raises InputError for a file that is missing, no UTF-8 text or without an utterance, for a malformed line, for an
    id that comes twice, and for sclite's markup of alternatives ("{ a / b }", "@"), which is not scored here.
    """
    lines = read_lines(path, ".trn file", "lines of words (utterance-id)")
    texts: dict[str, str] = {}
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        utterance, text = _parse_line(line.strip(), f"{path}:{number}")
        if utterance in texts:
            raise InputError(
                f"{path}:{number}: utterance {utterance!r} was on line {first_line[utterance]} already; remove one"
            )
        texts[utterance], first_line[utterance] = text, number
    if not texts:
        raise InputError(f"{path}: holds no utterance; expected lines of words (utterance-id)")
    return texts


def _parse_line(line: str, where: str) -> tuple[str, str]:
    match = _TRN_LINE.fullmatch(line)
    if match is None:
        raise InputError(f"{where}: expected words (utterance-id), found {line!r}; write the file again")
    text = (match["text"] or "").strip()
    if markup := {"{", "@"}.intersection(text.split()):
        raise InputError(
            f"{where}: {markup.pop()!r} marks alternatives in sclite's format, which are not scored here; "
            "write one transcript on the line"
        )
    return match["id"], text


def write_trn(path: str | Path, texts: Mapping[str, str]) -> None:
    """Write a .trn file from id to words; the file appears whole or not at all."""
    write_whole(path, trn_text(texts))


def trn_text(texts: Mapping[str, str]) -> str:
    """Return the content of a .trn file from id to words."""
    return "".join(f"{text} ({utterance})\n" for utterance, text in texts.items())


def utterance_ids(manifest: Manifest) -> list[str]:
    """Name each utterance by its path without extension, "-" for "/"; a part of a file keeps its start and length.

    Raises InputError for two lines with one id and for an id that a .trn file cannot hold.
    """
    line_of: dict[str, int] = {}
    for entry in manifest.entries:
        part = slice_of(entry.path)
        path, numbers = (part.file, (str(part.start), str(part.length))) if part else (entry.path, ())
        utterance = "-".join([os.path.splitext(path)[0].replace("/", "-"), *numbers])
        if re.search(r"[()\s]", utterance):
            raise InputError(
                f"{manifest.where(entry)}: {entry.path!r} gives utterance id {utterance!r}, and a .trn id holds "
                "neither parentheses nor spaces; rename the file"
            )
        if utterance in line_of:
            raise InputError(
                f"{manifest.where(entry)}: utterance id {utterance!r} (the path without extension, '-' for '/') was "
                f"on line {line_of[utterance]} already; rename or remove one"
            )
        line_of[utterance] = entry.line
    return list(line_of)
