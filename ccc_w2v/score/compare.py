"""Several decodings of one test set: which differences of their word error rates hold?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.score.alignment import align_all
from ccc_w2v.score.bootstrap import holm, paired_bootstrap
from ccc_w2v.score.mapsswe import matched_pairs
from ccc_w2v.score.scorecard import (
    LEVEL,
    RESAMPLES,
    heading,
    interval_text,
    provenance,
    provenance_lines,
    rate,
    read_texts,
    row_text,
)
from ccc_w2v.score.speakers import units
from ccc_w2v.score.wer import Score, score


def compare(
    systems: Sequence[str | Path],
    *,
    reference_path: str | Path | None = None,
    rules: str = "none",
    seed: int = 0,
    speakers: str | Path | None = None,
) -> dict[str, Any]:
    """Return the word error rates of ``systems`` (.trn files, or folders of ccc-w2v decode) and of each pair a test.

    A difference holds where both p-values, of the paired bootstrap and of the matched pairs, are below 5 % after Holm's
    adjustment for the number of pairs.

    Raises InputError for fewer than two systems, one named twice, no references, and references that differ.
    """
    if len(set(map(str, systems))) < max(2, len(systems)):
        found = ", ".join(map(str, systems)) or "none"
        raise InputError(f"found the systems {found}; expected two or more, each once")
    return compare_texts(*read_systems(systems, reference_path, rules), rules=rules, seed=seed, speakers=speakers)


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
    references: Mapping[str, str],
    hypotheses: Mapping[str, Mapping[str, str]],
    *,
    rules: str,
    seed: int = 0,
    speakers: str | Path | None = None,
) -> dict[str, Any]:
    """Do as compare does, on texts to which ``rules`` are applied already; ``hypotheses`` by system."""
    scores = {name: score(references, texts) for name, texts in hypotheses.items()}
    resampled = units(speakers, list(references))
    return {
        "systems": {name: rate(scored, resampled.names, seed) for name, scored in scores.items()},
        "pairs": _pairs(references, hypotheses, scores, resampled.names, seed),
        **provenance(rules, seed, resampled),
    }


def _references(systems: Sequence[str | Path], path: str | Path | None, rules: str) -> dict[str, str]:
    paths = [Path(path)] if path else [Path(system) / "ref.trn" for system in systems if Path(system).is_dir()]
    if not paths:
        raise InputError(f"{systems[0]}: a file without references; name them with --ref")
    first, *others = ({each: read_texts(each, rules) for each in paths}).items()
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
) -> list[dict[str, Any]]:
    alignments = {name: align_all(references, texts) for name, texts in hypotheses.items()}
    pairs: list[dict[str, Any]] = []
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
        tested = asdict(matched_pairs(alignments[a], alignments[b]))
        pairs.append({"a": a, "b": b, "bootstrap": difference and asdict(difference), "matched_pairs": tested})
    # A test that had too little data says nothing against "no difference".
    for test in ("bootstrap", "matched_pairs"):
        found = [(pair[test] or {}).get("p") for pair in pairs]
        for pair, adjusted in zip(pairs, holm([1.0 if p is None else p for p in found]), strict=True):
            pair[f"{test}_p_adjusted"] = adjusted
    for pair in pairs:
        pair["holds"] = max(pair["bootstrap_p_adjusted"], pair["matched_pairs_p_adjusted"]) < 1 - LEVEL
    return pairs


def comparison_table(report: Mapping[str, Any]) -> str:
    """Lay a report of compare() out for people."""
    width = max(len(name) for name in report["systems"])
    lines = [heading(width), *(row_text(name, row, width) for name, row in report["systems"].items())]
    lines += [
        "",
        f"{'difference of A and B':<{2 * width + 3}}{'A - B':>10}{'bootstrap p':>13}{'MAPSSWE p':>11}   holds",
    ]
    for pair in report["pairs"]:
        bootstrap, tested = pair["bootstrap"], pair["matched_pairs"]
        value = f"{bootstrap['value']:+.2%}" if bootstrap else "-"
        p_values = [None if bootstrap is None else bootstrap["p"], tested["p"]]
        shown = ["-" if p is None else f"{p:.4f}" if p >= 0.0001 else "<0.0001" for p in p_values]
        mark = "yes *" if pair["holds"] else "no"
        interval = interval_text(bootstrap and bootstrap["interval"])
        lines.append(
            f"{pair['a'] + ' - ' + pair['b']:<{2 * width + 3}}{value:>10}{shown[0]:>13}{shown[1]:>11}   {mark:<6}"
            f"{LEVEL:.0%}: {interval}; {tested['segments']} segments"
        )
    lines += ["", f"* both p below {1 - LEVEL:.0%} after Holm's adjustment for {len(report['pairs'])} comparisons"]
    return "\n".join([*lines, *provenance_lines(report)])
