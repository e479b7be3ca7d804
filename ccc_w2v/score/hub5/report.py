"""The scorecard of one Hub5 scoring: NIST sclite's numbers where it is installed, and ours beside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ccc_w2v
from ccc_w2v.data.decoding import SETTINGS, read_settings
from ccc_w2v.data.stm import Stm, read_stm, write_ctm
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256
from ccc_w2v.score.error_rate import LEVEL, RESAMPLES, ErrorRate, counts_dict, counts_text, error_rate, row_text
from ccc_w2v.score.hub5 import sclite
from ccc_w2v.score.hub5.align import ScoredSegment, score_segments
from ccc_w2v.score.hub5.hypothesis import read_hypothesis
from ccc_w2v.score.hub5.lattice import Place, total_cost
from ccc_w2v.score.scorecard import natural_order
from ccc_w2v.score.wer import NO_COUNTS, Counts, Score, score_groups

# What the recordings of the Hub5 and RT-03 evaluations begin with.
CORPORA = {"sw": "Switchboard", "en": "CallHome", "fsh": "Fisher"}
BREAKDOWNS = {"by_corpus": "corpus", "by_label": "label of the reference", "by_speaker": "speaker"}
EXAMPLES = 5
RULES = "GLM on both sides, hyphens part words, a-z without case, -F broken words, -D optionally deletable words"

Judged = Sequence[tuple[Counts, list[Place]]]


@dataclass(frozen=True)
class Row:
    """Our word error rate over some segments, and sclite's where it is installed."""

    segments: int
    ours: ErrorRate
    sclite: ErrorRate | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a JSON report."""
        theirs = self.sclite and {**counts_dict(self.sclite.counts), "rate": self.sclite.rate}
        return {"segments": self.segments, **self.ours.as_dict(), "sclite": theirs}


@dataclass(frozen=True)
class Differences:
    """Segments that sclite counts otherwise, how many of them are ties (another alignment of equal cost), examples."""

    segments: int
    ties: int
    examples: list[str]


@dataclass(frozen=True)
class Hub5Scorecard:
    """All numbers on one Hub5 scoring, and what made them.

    ``breakdowns`` go from a key of BREAKDOWNS to rows by name, ``files`` from what a file is to its path and SHA-256.
    """

    segments: int
    overall: Row
    breakdowns: dict[str, dict[str, Row]]
    differences: Differences | None
    sides: int  # conversation sides, which the bootstrap resamples
    seed: int
    files: dict[str, dict[str, str]]
    decoding: dict[str, Any]
    version: str
    sclite: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a JSON report."""
        drawn = {"of": "conversation sides", "count": self.sides}
        return {
            "standard": "hub5",
            "rules": RULES,
            "segments": self.segments,
            "wer": self.overall.as_dict(),
            **{key: {name: row.as_dict() for name, row in rows.items()} for key, rows in self.breakdowns.items()},
            "differences": self.differences and asdict(self.differences),
            "bootstrap": {**drawn, "level": LEVEL, "resamples": RESAMPLES, "seed": self.seed},
            "files": self.files,
            "decoding": self.decoding,
            "version": self.version,
            "sclite": self.sclite,
        }


def measure_hub5(
    stm_path: str | Path,
    hypothesis_path: str | Path,
    glm_path: str | Path,
    *,
    cuts_path: str | Path | None = None,
    ctm_out: str | Path | None = None,
    seed: int = 0,
) -> Hub5Scorecard:
    """Score by NIST's rules; see hypothesis.read_hypothesis for ``cuts_path``.

    ``ctm_out`` is where to write the words as they are scored. Intervals are over conversation sides. Raises InputError
    as what it reads does, and for a reference without a word.
    """
    stm = read_stm(stm_path)
    words = read_hypothesis(hypothesis_path, stm, cuts_path)
    scored = score_segments(stm, words, glm_path)
    if ctm_out is not None:
        write_ctm(ctm_out, words)
    ours = {str(number): segment.counts for number, segment in enumerate(scored)}
    if not sum(ours.values(), NO_COUNTS).words:
        raise InputError(f"{stm_path}: holds no word that counts, so there is no error rate; check it and the GLM")
    judged = sclite.run_sclite(stm, words, glm_path) if sclite.installed() else None
    theirs = {str(number): counts for number, (counts, _) in enumerate(judged)} if judged is not None else None
    sides = [f"{segment.segment.recording} {segment.segment.channel}" for segment in scored]
    side_of = dict(zip(ours, sides, strict=True))
    read = {"reference": stm_path, "hypothesis": hypothesis_path, "glm": glm_path, "segments": cuts_path}
    return Hub5Scorecard(
        segments=len(scored),
        overall=_row(ours, theirs, side_of, seed),
        breakdowns={
            key: _breakdown(ours, theirs, mappings, side_of, seed)
            for key, mappings in _parts(stm, scored).items()
            if mappings
        },
        differences=None if judged is None else _differences(stm, scored, judged),
        sides=len(set(sides)),
        seed=seed,
        files={name: {"path": str(path), "sha256": sha256(path)} for name, path in read.items() if path},
        decoding=read_settings(Path(hypothesis_path).parent),
        version=f"ccc-w2v {ccc_w2v.__version__}",
        sclite=sclite.version() if judged is not None else None,
    )


def _parts(stm: Stm, scored: Sequence[ScoredSegment]) -> dict[str, list[dict[str, str]]]:
    """Return for each breakdown the mappings from segment to part; labels of one place are one mapping."""
    titles = stm.titles()
    parts: dict[str, list[dict[str, str]]] = {name: [{}] for name in BREAKDOWNS}
    width = max(len(segment_scored.segment.labels) for segment_scored in scored)
    parts["by_label"] = [{} for _ in range(width)]
    for number, scored_segment in enumerate(scored):
        segment = scored_segment.segment
        if corpus := CORPORA.get(re.split(r"[^a-z]", segment.recording.lower(), maxsplit=1)[0]):
            parts["by_corpus"][0][str(number)] = corpus
        parts["by_speaker"][0][str(number)] = segment.speaker
        for place, label in enumerate(segment.labels):
            parts["by_label"][place][str(number)] = f"{label} {titles.get(label, '')}".strip()
    return {name: [mapping for mapping in mappings if mapping] for name, mappings in parts.items()}


def _row(ours: Mapping[str, Counts], theirs: Mapping[str, Counts] | None, sides: Mapping[str, str], seed: int) -> Row:
    scored = Score("word", dict(ours), sum(ours.values(), NO_COUNTS))
    rate = error_rate(scored, [sides[segment] for segment in ours], seed)
    if theirs is None:
        return Row(len(ours), rate, None)
    total = sum((theirs[segment] for segment in ours), NO_COUNTS)
    return Row(len(ours), rate, ErrorRate(total, total.errors / total.words))


def _breakdown(
    ours: Mapping[str, Counts],
    theirs: Mapping[str, Counts] | None,
    mappings: Sequence[Mapping[str, str]],
    sides: Mapping[str, str],
    seed: int,
) -> dict[str, Row]:
    rows = {}
    for part_of in mappings:
        counted = {segment: ours[segment] for segment in part_of}
        parts = score_groups(Score("word", counted, sum(counted.values(), NO_COUNTS)), part_of)
        for name in sorted(parts, key=natural_order):
            rows[name] = _row(parts[name].utterances, theirs, sides, seed)
    return rows


def _differences(stm: Stm, scored: Sequence[ScoredSegment], judged: Judged) -> Differences:
    """Compare our counts with sclite's by segment; a tie is another alignment of the same cost."""
    differing = [
        (segment, counts, places)
        for segment, (counts, places) in zip(scored, judged, strict=True)
        if segment.counts != counts
    ]
    ties = sum(total_cost(segment.places) == total_cost(places) for segment, _, places in differing)
    examples = [
        f"{stm.where(segment.segment)}: sclite {_counts_text(counts)}, ours {_counts_text(segment.counts)}"
        for segment, counts, _ in differing[:EXAMPLES]
    ]
    return Differences(len(differing), ties, examples)


def _counts_text(counts: Counts) -> str:
    return f"S {counts.substitutions} D {counts.deletions} I {counts.insertions} of {counts.words}"


def hub5_table(card: Hub5Scorecard) -> str:
    """Lay a scorecard out for people."""
    lines = [_headings(card), _line("overall", card.overall)]
    for key, rows in card.breakdowns.items():
        lines += ["", f"WER by {BREAKDOWNS[key]}", *(_line(name, row) for name, row in rows.items())]
    if card.differences is None:
        lines += ["", "NIST sclite is not installed (Debian package sctk): these are our counts alone"]
    else:
        agreement = f"ours and sclite's counts differ in {card.differences.segments} of {card.segments} segments"
        lines += ["", f"{agreement}, {card.differences.ties} of them other alignments of the same cost"]
        lines += card.differences.examples
    lines.append(f"interval: {RESAMPLES} bootstrap resamples of {card.sides} conversation sides, seed {card.seed}")
    lines += [f"{name}: {file['path']}, sha256 {file['sha256']}" for name, file in card.files.items()]
    decoding = ", ".join(f"{key} {value}" for key, value in card.decoding.items())
    lines.append(f"decoding: {decoding or f'not known, no {SETTINGS} beside the hypothesis'}")
    lines.append(f"rules: {RULES}")
    lines.append(f"scored by {card.version}" + (f" and {card.sclite}" if card.sclite else ""))
    return "\n".join(lines)


def _headings(card: Hub5Scorecard) -> str:
    columns = "".join(f"{title:>8}" for title in ("N", "S", "D", "I")) + f"{'WER':>10}"
    judge = f"{columns}   " if card.sclite else ""
    who = f"{'':<24}" + (f"{'NIST sclite':>{len(columns)}}   " if judge else "") + f"{'ours':>{len(columns)}}"
    return f"{who}\n{'':<24}{judge}{columns}   {LEVEL:.0%} interval"


def _line(name: str, row: Row) -> str:
    judge = f"{counts_text(row.sclite)}   " if row.sclite else ""
    return row_text(f"{name:<24}{judge}", row.ours, width=0)
