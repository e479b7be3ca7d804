"""Word and character error rates, counted as NIST sclite counts them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from ccc_w2v.errors import InputError
from ccc_w2v.score.alignment import error_costs

UNITS = ("word", "char")
# Highest number of words of each class of lengths but the last.
LENGTH_BOUNDS = (5, 10, 20, 40)


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
    scores = {name: Score(scored.unit, counts, sum(counts.values(), NO_COUNTS)) for name, counts in members.items()}
    return {name: group_score for name, group_score in scores.items() if group_score.total.words}


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
