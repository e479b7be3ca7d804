"""Several decodings of one test set: which differences of their word error rates hold?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.score.alignment import align_all
from ccc_w2v.score.bootstrap import Difference, holm, paired_bootstrap
from ccc_w2v.score.error_rate import LEVEL, RESAMPLES, ErrorRate, error_rate, heading, interval_text, row_text
from ccc_w2v.score.mapsswe import MatchedPairs, matched_pairs
from ccc_w2v.score.options import ScoringOptions
from ccc_w2v.score.scorecard import Provenance, provenance, read_texts
from ccc_w2v.score.speakers import units
from ccc_w2v.score.wer import Score, score


@dataclass(frozen=True)
class PairTest:
    """System a against system b: both tests, their p-values after Holm's adjustment, and whether the difference holds.

    A test is None, or its p, where it had too little data; its adjusted p is then 1.
    """

    a: str
    b: str
    bootstrap: Difference | None
    matched_pairs: MatchedPairs
    bootstrap_p_adjusted: float = 1.0
    matched_pairs_p_adjusted: float = 1.0

    @property
    def holds(self) -> bool:
        """Whether both p-values are below 5 %."""
        return max(self.bootstrap_p_adjusted, self.matched_pairs_p_adjusted) < 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """Word error rates by system, a test of each pair, and how they were made."""

    systems: dict[str, ErrorRate]
    pairs: list[PairTest]
    provenance: Provenance

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a JSON report."""
        return {
            "systems": {name: rate.as_dict() for name, rate in self.systems.items()},
            "pairs": [{**asdict(pair), "holds": pair.holds} for pair in self.pairs],
            **self.provenance.as_dict(),
        }


def compare(
    systems: Sequence[str | Path], options: ScoringOptions, reference_path: str | Path | None = None
) -> Comparison:
    """Compare the word error rates of ``systems`` (.trn files, or folders of ccc-w2v decode), pair by pair.

    A difference holds where both p-values, of the paired bootstrap and of the matched pairs, are below 5 % after Holm's
    adjustment for the number of pairs.

    Raises InputError for fewer than two systems, one named twice, no references, and references that differ.
    """
    if len(set(map(str, systems))) < max(2, len(systems)):
        named = ", ".join(map(str, systems)) or "none"
        raise InputError(f"found the systems {named}; expected two or more, each once")
    return compare_texts(*read_systems(systems, reference_path, options.rules), options)


def system_files(systems: Sequence[str | Path], reference_path: str | Path | None) -> dict[str, Path]:
    """Return every file that read_systems reads, by what it is: the references, and each system's hypotheses."""
    paths = {str(system): Path(system) for system in systems}
    hypotheses = {name: path / "hyp.trn" if path.is_dir() else path for name, path in paths.items()}
    if reference_path:
        return {"references": Path(reference_path), **hypotheses}
    return {
        **{f"references of {name}": path / "ref.trn" for name, path in paths.items() if path.is_dir()},
        **hypotheses,
    }


def read_systems(
    systems: Sequence[str | Path], reference_path: str | Path | None, rules: str
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return the references, and the hypotheses of each system by its name; raises InputError as compare does."""
    references = _references(systems, reference_path, rules)
    return references, {
        str(system): read_texts(Path(system) / "hyp.trn" if Path(system).is_dir() else system, rules)
        for system in systems
    }


def compare_texts(
    references: Mapping[str, str], hypotheses: Mapping[str, Mapping[str, str]], options: ScoringOptions
) -> Comparison:
    """Do as compare does, on texts to which the options' rules are applied already; ``hypotheses`` by system."""
    scores = {name: score(references, texts) for name, texts in hypotheses.items()}
    resampled = units(options.speakers, list(references))
    return Comparison(
        {name: error_rate(scored, resampled.names, options.seed) for name, scored in scores.items()},
        _pairs(references, hypotheses, scores, resampled.names, options.seed),
        provenance(options, resampled),
    )


def _references(systems: Sequence[str | Path], path: str | Path | None, rules: str) -> dict[str, str]:
    paths = [Path(path)] if path else [Path(system) / "ref.trn" for system in systems if Path(system).is_dir()]
    if not paths:
        raise InputError(f"{systems[0]}: a file without references; name them with --ref")
    first, *others = ({path: read_texts(path, rules) for path in paths}).items()
    for other, texts in others:
        if texts != first[1]:
            raise InputError(f"{other}: other references than {first[0]}; only decodings of one test set compare")
    return first[1]


def _errors(scored: Score) -> list[int]:
    return [counts.errors for counts in scored.utterances.values()]


def _pairs(
    references: Mapping[str, str],
    hypotheses: Mapping[str, Mapping[str, str]],
    scores: Mapping[str, Score],
    groups: Sequence[str],
    seed: int,
) -> list[PairTest]:
    alignments = {name: align_all(references, texts) for name, texts in hypotheses.items()}
    pairs: list[PairTest] = []
    for a, b in itertools.combinations(scores, 2):
        words = [counts.words for counts in scores[a].utterances.values()]
        difference = paired_bootstrap(
            _errors(scores[a]),
            _errors(scores[b]),
            words,
            groups,
            generator=generator_for(seed, "bootstrap word"),
            resamples=RESAMPLES,
            level=LEVEL,
        )
        pairs.append(PairTest(a, b, difference, matched_pairs(alignments[a], alignments[b])))
    # A test that had too little data says nothing against "no difference".
    bootstrap_p = holm([1.0 if pair.bootstrap is None else pair.bootstrap.p for pair in pairs])
    matched_p = holm([1.0 if pair.matched_pairs.p is None else pair.matched_pairs.p for pair in pairs])
    return [
        replace(pair, bootstrap_p_adjusted=bootstrap, matched_pairs_p_adjusted=matched)
        for pair, bootstrap, matched in zip(pairs, bootstrap_p, matched_p, strict=True)
    ]


def comparison_table(comparison: Comparison) -> str:
    """Lay a comparison out for people."""
    width = max(map(len, comparison.systems))
    lines = [heading(width), *(row_text(name, row, width) for name, row in comparison.systems.items())]
    lines += [
        "",
        f"{'difference of A and B':<{2 * width + 3}}{'A - B':>10}{'bootstrap p':>13}{'MAPSSWE p':>11}   holds",
    ]
    for pair in comparison.pairs:
        bootstrap, tested = pair.bootstrap, pair.matched_pairs
        value = f"{bootstrap.value:+.2%}" if bootstrap else "-"
        p_values = [bootstrap.p if bootstrap else None, tested.p]
        shown = ["-" if p is None else f"{p:.4f}" if p >= 0.0001 else "<0.0001" for p in p_values]
        mark = "yes *" if pair.holds else "no"
        interval = interval_text(bootstrap.interval if bootstrap else None)
        lines.append(
            f"{pair.a + ' - ' + pair.b:<{2 * width + 3}}{value:>10}{shown[0]:>13}{shown[1]:>11}   {mark:<6}"
            f"{LEVEL:.0%}: {interval}; {tested.segments} segments"
        )
    lines += ["", f"* both p below {1 - LEVEL:.0%} after Holm's adjustment for {len(comparison.pairs)} comparisons"]
    return "\n".join([*lines, *comparison.provenance.lines()])
