"""Everything that is reported about one decoding, as a scorecard and as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rapidfuzz

import ccc_w2v
from ccc_w2v.data.trn import read_trn
from ccc_w2v.score.alignment import Confusions, align_all, confusions
from ccc_w2v.score.bootstrap import read_groups
from ccc_w2v.score.error_rate import ERROR_KINDS, LEVEL, RESAMPLES, ErrorRate, error_rate, heading, row_text
from ccc_w2v.score.normalize import normalize
from ccc_w2v.score.options import ScoringOptions
from ccc_w2v.score.speakers import Units, units
from ccc_w2v.score.wer import Score, length_class, score, score_groups

MOSTLY = 0.5  # of the errors
BREAKDOWNS = {
    "by_speaker": "speaker",
    "by_condition": "condition",
    "by_length": "length of the reference",
    "by_snr": "signal-to-noise ratio",
}


@dataclass(frozen=True)
class Provenance:
    """How numbers were made: what was resampled how often and from which seed, the text rules, the programs."""

    resampled: str  # "speakers"
    groups: int
    seed: int
    rules: str
    version: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a JSON report."""
        drawn = {"of": self.resampled, "count": self.groups}
        return {
            "bootstrap": {**drawn, "level": LEVEL, "resamples": RESAMPLES, "seed": self.seed},
            "normalization": self.rules,
            "version": self.version,
        }

    def lines(self) -> list[str]:
        """Lay it out for people."""
        return [
            f"interval: {RESAMPLES} bootstrap resamples of {self.groups} {self.resampled}, seed {self.seed}",
            f"normalisation: {self.rules}; scored by {self.version}",
        ]


def provenance(options: ScoringOptions, resampled: Units) -> Provenance:
    """Say how numbers are made with these options."""
    version = f"ccc-w2v {ccc_w2v.__version__}, rapidfuzz {rapidfuzz.__version__}"
    return Provenance(resampled.of, resampled.count, options.seed, options.rules, version)


@dataclass(frozen=True)
class Part:
    """One speaker, condition or class: its number of utterances, sentence error rate (1.0 is 100 %) and WER."""

    utterances: int
    ser: float
    wer: ErrorRate

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a JSON report."""
        return {"utterances": self.utterances, "ser": self.ser, **self.wer.as_dict()}


@dataclass(frozen=True)
class Scorecard:
    """All numbers on one decoding: error rates of words, characters and sentences, and what they are made of.

    ``breakdowns`` go from a key of BREAKDOWNS to its parts by name. ``hint`` says so where case or punctuation explain
    most of the errors.
    """

    utterances: int
    wer: ErrorRate
    cer: ErrorRate
    ser: float
    breakdowns: dict[str, dict[str, Part]]
    confusions: Confusions
    hint: str | None
    provenance: Provenance

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a JSON report."""
        parts = {
            key: {name: part.as_dict() for name, part in breakdown.items()}
            for key, breakdown in self.breakdowns.items()
        }
        return {
            "utterances": self.utterances,
            "wer": self.wer.as_dict(),
            "cer": self.cer.as_dict(),
            "ser": self.ser,
            **parts,
            "confusions": dataclasses.asdict(self.confusions),
            **({"hint": self.hint} if self.hint else {}),
            **self.provenance.as_dict(),
        }


def read_texts(path: str | Path, rules: str) -> dict[str, str]:
    """Read a .trn file under the named text rules; raises InputError as read_trn and normalize do."""
    return {utterance: normalize(text, rules) for utterance, text in read_trn(path).items()}


def measure(reference_path: str | Path, hypothesis_path: str | Path, options: ScoringOptions) -> Scorecard:
    """Score two .trn files; see measure_texts. Raises InputError as read_trn does."""
    references, hypotheses = (read_texts(path, options.rules) for path in (reference_path, hypothesis_path))
    return measure_texts(references, hypotheses, options)


def measure_texts(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    options: ScoringOptions,
    snr_classes: Mapping[str, str] | None = None,
) -> Scorecard:
    """Score texts to which the options' rules are applied already; ``snr_classes`` go from utterance id to a name.

    Intervals are over speakers or conversation sides where they are known, else over utterances. Raises InputError as
    score, units and read_groups do.
    """
    words, characters = (score(references, hypotheses, unit) for unit in ("word", "char"))
    ids = list(references)
    resampled = units(options.speakers, ids)
    split: dict[str, Sequence[str] | None] = {
        "by_speaker": resampled.names if options.speakers else None,
        "by_condition": read_groups(options.conditions, ids, "condition") if options.conditions else None,
        "by_length": [length_class(counts.words) for counts in words.utterances.values()],
        "by_snr": [snr_classes[utterance] for utterance in ids] if snr_classes else None,
    }
    resampled_with = dict(zip(ids, resampled.names, strict=True))
    return Scorecard(
        utterances=len(ids),
        wer=error_rate(words, resampled.names, options.seed),
        cer=error_rate(characters, resampled.names, options.seed),
        ser=words.sentence_error_rate,
        breakdowns={
            key: _breakdown(words, dict(zip(ids, names, strict=True)), resampled_with, options.seed)
            for key, names in split.items()
            if names is not None
        },
        confusions=confusions(align_all(references, hypotheses).values()),
        hint=spelling_hint(references, hypotheses, words.total.errors),
        provenance=provenance(options, resampled),
    )


def spelling_hint(references: Mapping[str, str], hypotheses: Mapping[str, str], errors: int) -> str | None:
    """Say so where case, or case and punctuation, explain most of the word errors; None where they do not."""
    for what, change in (
        ("case", str.casefold),
        ("case and punctuation", lambda text: normalize(text, "librispeech")),
    ):
        sides = [{key: change(text) for key, text in texts.items()} for texts in (references, hypotheses)]
        if not any(text.split() for text in sides[0].values()):
            continue
        left = score(sides[0], sides[1]).total.errors
        if errors - left > MOSTLY * errors:
            return (
                f"{1 - left / errors:.0%} of the word errors are differences of {what} alone: are both sides written "
                "by the same rules? --normalize librispeech (or hub5) applies one to both"
            )
    return None


def _breakdown(
    scored: Score, part_of: Mapping[str, str], resampled_with: Mapping[str, str], seed: int
) -> dict[str, Part]:
    """Return each part in the order of its name, resampled in the groups of the whole."""
    return {
        name: Part(
            len(part.utterances),
            part.sentence_error_rate,
            error_rate(part, [resampled_with[utterance] for utterance in part.utterances], seed),
        )
        for name, part in sorted(score_groups(scored, part_of).items(), key=lambda item: natural_order(item[0]))
    }


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which numbers inside names count as numbers: "6-10 words" before "11-20 words"."""
    parts = "".join(letter if letter.isdecimal() else f"\0{letter}\0" for letter in name).split("\0")
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def table(card: Scorecard) -> str:
    """Lay a scorecard out for people."""
    lines = [heading(), row_text("words (WER)", card.wer), row_text("characters (CER)", card.cer)]
    lines.append(f"sentences with errors (SER) {card.ser:.2%} of {card.utterances} utterances")
    for key, parts in card.breakdowns.items():
        lines += ["", f"WER by {BREAKDOWNS[key]}"]
        lines += [
            f"{row_text(name, part.wer)}   {part.utterances} utt, SER {part.ser:.2%}" for name, part in parts.items()
        ]
    for kind in ERROR_KINDS:
        if pairs := getattr(card.confusions, kind):
            shown = ", ".join(f"{' -> '.join(words)} ({count})" for *words, count in pairs)
            lines += ["", f"most frequent {kind}: {shown}"]
    if card.hint:
        lines += ["", f"hint: {card.hint}"]
    return "\n".join([*lines, "", *card.provenance.lines()])
