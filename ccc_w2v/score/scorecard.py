"""Everything that is reported about one decoding, as plain data and as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rapidfuzz

import ccc_w2v
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.data.trn import read_trn
from ccc_w2v.score.alignment import align_all, confusions
from ccc_w2v.score.bootstrap import bootstrap_interval, read_groups, wilson_interval
from ccc_w2v.score.normalize import normalize
from ccc_w2v.score.speakers import Units, units
from ccc_w2v.score.wer import Score, length_class, score, score_groups

LEVEL = 0.95
MOSTLY = 0.5  # of the errors
RESAMPLES = 10_000
WILSON = "Wilson"
ERROR_KINDS = ("substitutions", "deletions", "insertions")
BREAKDOWNS = {
    "by_speaker": "speaker",
    "by_condition": "condition",
    "by_length": "length of the reference",
    "by_snr": "signal-to-noise ratio",
}


def read_texts(path: str | Path, rules: str) -> dict[str, str]:
    """Read a .trn file under the named text rules; raises InputError as read_trn and normalize do."""
    return {utterance: normalize(text, rules) for utterance, text in read_trn(path).items()}


def measure(
    reference_path: str | Path,
    hypothesis_path: str | Path,
    *,
    rules: str = "none",
    seed: int = 0,
    speakers: str | Path | None = None,
    conditions: str | Path | None = None,
) -> dict[str, Any]:
    """Return every number of the report on two .trn files; see measure_texts. Raises InputError as read_trn does."""
    references, hypotheses = (read_texts(path, rules) for path in (reference_path, hypothesis_path))
    return measure_texts(references, hypotheses, rules=rules, seed=seed, speakers=speakers, conditions=conditions)


def measure_texts(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    *,
    rules: str,
    seed: int = 0,
    speakers: str | Path | None = None,
    conditions: str | Path | None = None,
    snr_classes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return every number of the report on texts to which ``rules`` are applied already.

    ``speakers`` says who speaks (see speakers.units), ``conditions`` is a file of utterance-id condition, and
    ``snr_classes`` go from utterance id to a name. Intervals are over speakers or conversation sides where they are
    known, else over utterances. Raises InputError as score, units and read_groups do.
    """
    words, characters = (score(references, hypotheses, unit) for unit in ("word", "char"))
    ids = list(references)
    resampled = units(speakers, ids)
    split: dict[str, Sequence[str] | None] = {
        "by_speaker": resampled.names if speakers else None,
        "by_condition": read_groups(conditions, ids, "condition") if conditions else None,
        "by_length": [length_class(counts.words) for counts in words.utterances.values()],
        "by_snr": [snr_classes[utterance] for utterance in ids] if snr_classes else None,
    }
    pairs = confusions(align_all(references, hypotheses).values())
    hint = spelling_hint(references, hypotheses, words.total.errors)
    return {
        "utterances": len(ids),
        "wer": rate(words, resampled.names, seed),
        "cer": rate(characters, resampled.names, seed),
        "ser": words.sentence_error_rate,
        **{
            name: _breakdown(
                words, dict(zip(ids, names, strict=True)), dict(zip(ids, resampled.names, strict=True)), seed
            )
            for name, names in split.items()
            if names is not None
        },
        "confusions": dataclasses.asdict(pairs),
        **({"hint": hint} if hint else {}),
        **provenance(rules, seed, resampled),
    }


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


def provenance(rules: str, seed: int, resampled: Units) -> dict[str, Any]:
    """Say how the numbers were made, in the words that every report ends with."""
    drawn = {"of": resampled.of, "count": resampled.count}
    return {
        "bootstrap": {**drawn, "level": LEVEL, "resamples": RESAMPLES, "seed": seed},
        "normalization": rules,
        "version": f"ccc-w2v {ccc_w2v.__version__}, rapidfuzz {rapidfuzz.__version__}",
    }


def provenance_lines(report: Mapping[str, Any]) -> list[str]:
    """Lay provenance() out for people."""
    return [
        "interval: {resamples} bootstrap resamples of {count} {of}, seed {seed}".format(**report["bootstrap"]),
        f"normalisation: {report['normalization']}; scored by {report['version']}",
    ]


def rate(scored: Score, groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Return a Score's error rate with counts and interval; ``units`` is its number of words or characters.

    Where all groups err alike, mostly not at all, the bootstrap's interval has no width: Wilson's stands there, and
    "interval_rule" says so.
    """
    errors, units = zip(*((counts.errors, counts.words) for counts in scored.utterances.values()), strict=True)
    generator = generator_for(seed, f"bootstrap {scored.unit}")
    interval = bootstrap_interval(errors, units, groups, generator=generator, resamples=RESAMPLES, level=LEVEL)
    counts = {key: getattr(scored.total, key) for key in ERROR_KINDS}
    row = {"units": scored.total.words, **counts, "rate": scored.error_rate, "interval": interval}
    if interval and interval[0] == interval[1]:
        row |= {"interval": wilson_interval(scored.total.errors, scored.total.words, LEVEL), "interval_rule": WILSON}
    return row


def _breakdown(
    scored: Score, part_of: Mapping[str, str], resampled: Mapping[str, str], seed: int
) -> dict[str, dict[str, Any]]:
    """Return for each part its utterances, sentence error rate and rate, resampled in the groups of the whole."""
    return {
        name: {
            "utterances": len(part.utterances),
            "ser": part.sentence_error_rate,
            **rate(part, [resampled[utterance] for utterance in part.utterances], seed),
        }
        for name, part in sorted(score_groups(scored, part_of).items(), key=lambda item: natural_order(item[0]))
    }


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which numbers inside names count as numbers: "6-10 words" before "11-20 words"."""
    parts = "".join(letter if letter.isdecimal() else f"\0{letter}\0" for letter in name).split("\0")
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def interval_text(interval: Sequence[float] | None) -> str:
    """Lay an interval of rates out for people."""
    return " to ".join(f"{bound:.2%}" for bound in interval or ()) or "none: too little data"


def heading(width: int = 24) -> str:
    """Name the columns of row_text()."""
    columns = "".join(f"{title:>8}" for title in ("N", "S", "D", "I"))
    return f"{'':<{width}}{columns}{'rate':>10}   {LEVEL:.0%} interval"


def table(report: Mapping[str, Any]) -> str:
    """Lay a report of measure() out for people."""
    lines = [heading()]
    lines += [row_text("words (WER)", report["wer"]), row_text("characters (CER)", report["cer"])]
    lines.append(f"sentences with errors (SER) {report['ser']:.2%} of {report['utterances']} utterances")
    for key, title in BREAKDOWNS.items():
        if key in report:
            lines += ["", f"WER by {title}"]
            lines += [
                f"{row_text(name, row)}   {row['utterances']} utt, SER {row['ser']:.2%}"
                for name, row in report[key].items()
            ]
    for kind in ERROR_KINDS:
        if pairs := report["confusions"][kind]:
            shown = ", ".join(f"{' -> '.join(words)} ({count})" for *words, count in pairs)
            lines += ["", f"most frequent {kind}: {shown}"]
    if "hint" in report:
        lines += ["", f"hint: {report['hint']}"]
    return "\n".join([*lines, "", *provenance_lines(report)])


def row_text(name: str, row: Mapping[str, Any], width: int = 24) -> str:
    """Lay one row of rate() out under heading()."""
    counts = "".join(f"{row[column]:>8}" for column in ("units", *ERROR_KINDS))
    return f"{name:<{width}}{counts}{row['rate']:>10.2%}   {interval_text(row['interval'])}{rule_text(row)}"


def rule_text(row: Mapping[str, Any]) -> str:
    """Name the rule of an interval that is not the bootstrap's."""
    return f" ({row['interval_rule']}: all err alike)" if "interval_rule" in row else ""
