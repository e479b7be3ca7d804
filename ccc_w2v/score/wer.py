"""NIST .trn transcripts, and word and character error rates counted as NIST sclite counts them.

A .trn file holds one utterance a line, "words (utterance-id)".
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from ccc_w2v.data.manifest import Manifest, write_whole
from ccc_w2v.errors import InputError
from ccc_w2v.score.alignment import error_costs
from ccc_w2v.text_files import read_lines, text_lines

UNITS = ("word", "char")
# Highest number of words of each class of lengths but the last.
LENGTH_BOUNDS = (5, 10, 20, 40)
_TRN_LINE = re.compile(r"(?:(?P<text>.*)\s)?\((?P<id>[^()\s]+)\)")


@dataclass(frozen=True)
class Counts:
    """Errors against a reference of ``words`` words (or characters, where characters are scored)."""

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )


NO_COUNTS = Counts(0, 0, 0, 0)


@dataclass(frozen=True)
class Score:
    """Counts of each utterance, in the references' order, and of all together; ``unit`` is word or char."""

    unit: str
    utterances: dict[str, Counts]
    total: Counts

    @property
    def error_rate(self) -> float:
        """Errors of all utterances over the words (or characters) of all references; 1.0 is 100 %."""
        return self.total.errors / self.total.words

    @property
    def sentence_error_rate(self) -> float:
        """Share of the utterances that hold an error."""
        return sum(counts.errors > 0 for counts in self.utterances.values()) / len(self.utterances)


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
    """Name each utterance by its path without extension, "-" for "/"; a zip slice keeps its offset and length.

    Raises InputError for two lines with one id and for an id that a .trn file cannot hold.
    """
    line_of: dict[str, int] = {}
    for entry in manifest.entries:
        path, *slice_ = re.split(r"(?<=\.zip):(\d+):(\d+)$", entry.path)
        utterance = "-".join([os.path.splitext(path)[0].replace("/", "-"), *slice_[:2]])
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


def read_references(manifest: Manifest) -> list[str] | None:
    """Read <split>.wrd beside the manifest, one transcript per utterance in its order; None where there is none.

    Raises InputError for another number of lines than the manifest has utterances.
    """
    path = Path(manifest.source).with_suffix(".wrd")
    if not path.is_file():
        return None
    transcripts = [" ".join(line.split()) for line in text_lines(path, "transcript file", "a line for each utterance")]
    if len(transcripts) != len(manifest):
        raise InputError(
            f"{path}: {len(transcripts)} lines, the manifest lists {len(manifest)} utterances; prepare the corpus again"
        )
    return transcripts


def count_errors(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Counts:
    """Count substitutions, deletions and insertions of the best alignment at sclite's costs of 4, 3 and 3.

    At equal cost the alignment with fewest errors counts; sclite leaves that to chance, though it mostly ends there
    too. The distance is rapidfuzz's, which takes any costs and little memory: with unit costs (jiwer, editdistance) the
    counts differ from sclite's. ``alignment.align`` has the same counts.
    """
    scale, gap, substitution = error_costs(len(reference) + len(hypothesis))
    distance = Levenshtein.distance(reference, hypothesis, weights=(gap, gap, substitution))
    # The distance is sclite's cost times scale, plus the number of errors.
    sclite_cost, errors = divmod(distance, scale)
    substitutions = sclite_cost - 3 * errors
    # Insertions minus deletions is the difference in length, whatever the alignment.
    insertions = (errors - substitutions + len(hypothesis) - len(reference)) // 2
    return Counts(substitutions, errors - substitutions - insertions, insertions, len(reference))


def score(references: Mapping[str, str], hypotheses: Mapping[str, str], unit: str = "word") -> Score:
    """Score hypotheses against references, both from utterance id to text.

    ``unit`` char compares characters without spaces, as sclite -c does: a space more or less is no error and spaces do
    not count in the denominator.

    Raises InputError for ids that are only on one side, and for references without any word.
    """
    if unit not in UNITS:
        raise InputError(f"unknown unit {unit!r}; available: {', '.join(UNITS)}")
    _refuse_unmatched(references, hypotheses)
    utterances = {
        utterance: count_errors(_split(text, unit), _split(hypotheses[utterance], unit))
        for utterance, text in references.items()
    }
    total = sum(utterances.values(), NO_COUNTS)
    if total.words == 0:
        raise InputError("the references hold no words, so there is no error rate; check them and the normalisation")
    return Score(unit, utterances, total)


def score_groups(scored: Score, group_of: Mapping[str, str]) -> dict[str, Score]:
    """Split a score by group (speaker, condition ...), in the order in which the groups first come.

    A group whose references hold no word is left out: it has no error rate.
    """
    members: dict[str, dict[str, Counts]] = {}
    for utterance, counts in scored.utterances.items():
        members.setdefault(group_of[utterance], {})[utterance] = counts
    scores = {name: Score(scored.unit, held, sum(held.values(), NO_COUNTS)) for name, held in members.items()}
    return {name: each for name, each in scores.items() if each.total.words}


def length_class(words: int) -> str:
    """Name the class of utterances that a reference of ``words`` words belongs to, as "6-10 words"."""
    lowest = 0
    for highest in LENGTH_BOUNDS:
        if words <= highest:
            return f"{lowest}-{highest} words"
        lowest = highest + 1
    return f"over {LENGTH_BOUNDS[-1]} words"


def _split(text: str, unit: str) -> Sequence[str]:
    words = text.split()
    return words if unit == "word" else "".join(words)


def _refuse_unmatched(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> None:
    sides = (("hypothesis", references, hypotheses), ("reference", hypotheses, references))
    for missing_side, present, absent in sides:
        missing = [utterance for utterance in present if utterance not in absent]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(present)} utterances have no {missing_side}: {', '.join(missing[:3])}"
                f"{', ...' if len(missing) > 3 else ''}; score the two files of one decoding"
            )
