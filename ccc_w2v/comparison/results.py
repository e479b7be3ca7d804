"""results.json: a row for each arm, seed, labels, condition and decoder, and which differences between arms hold."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ccc_w2v.comparison.settings import PROBE, Arm, Settings
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.data.trn import read_trn
from ccc_w2v.files import write_whole
from ccc_w2v.score.bootstrap import holm, paired_bootstrap
from ccc_w2v.score.compare import compare_texts
from ccc_w2v.score.error_rate import LEVEL, RESAMPLES
from ccc_w2v.score.options import ScoringOptions
from ccc_w2v.score.scorecard import measure_texts
from ccc_w2v.score.seeds import seeds_interval
from ccc_w2v.score.wer import score

SCORING = ScoringOptions(speakers="librispeech")
# What every other arm is compared with.
BASELINES = ("none", "spectra", "wav2vec2", "wav2vec2_equal", "ccc_one_context")


def measure_comparison(settings: Settings) -> dict[str, Any]:
    """Return rows and paired comparisons of all chains that are done; see write_results for their form."""
    chains = [
        (arm, seed, chain)
        for arm in settings.arms
        for seed in settings.seeds
        if (chain := settings.finished(arm, seed)) is not None
    ]
    rows = [row for chain in chains for row in _rows(settings, *chain)]
    by_cell = {tuple(row[key] for key in ("arm", "seed", "labels", "decoder", "condition")): row for row in rows}
    return {
        "scale": settings.scale.name,
        "arms": {arm.name: arm.title for arm in settings.arms},
        "rows": rows,
        "comparisons": [
            {**pair, **_over_seeds(pair, by_cell)}
            for pair in _comparisons(settings, [(arm, seed) for arm, seed, _ in chains])
        ],
    }


def write_results(settings: Settings, path: Path) -> dict[str, Any]:
    """Write results.json; returns it.

    A row: arm, labels, condition, decoder, seed, cer, wer and their intervals (1.0 is 100 %), encoder_passes, seconds
    (of pre-training, and of fine-tuning), processes (ranks of the pre-training), finetuning (the one that dev chose,
    where the scale has several, or repeats one that failed), commit. A comparison: arms a and b, labels, condition,
    decoder, the seeds that both have, and for cer and wer the difference a - b with its interval and p (paired
    bootstrap over speakers); for wer MAPSSWE's p as well, both adjusted by Holm for the pairs of one condition, and
    whether it holds. All that is of the
    networks that were trained. Of others, with other seeds, seed_differences (of each seed's rates) and seed_interval
    (Student's t over the seeds, None with one) speak.
    """
    results = measure_comparison(settings)
    write_whole(path, json.dumps(results, indent=1) + "\n")
    return results


def _rows(settings: Settings, arm: Arm, seed: int, chain: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for labels, decoder, condition in settings.cells:
        folder = settings.transcripts(arm, seed, labels, decoder, condition)
        card = measure_texts(read_trn(folder / "ref.trn"), read_trn(folder / "hyp.trn"), SCORING)
        rows.append(
            {
                "arm": arm.name,
                "labels": labels,
                "condition": condition,
                "decoder": decoder,
                "seed": seed,
                "cer": card.cer.rate,
                "cer_interval": card.cer.interval,
                "wer": card.wer.rate,
                "wer_interval": card.wer.interval,
                "encoder_passes": chain["encoder_passes"],
                "seconds": chain["pretraining_seconds"],
                "processes": chain.get("processes", 1),
                "finetuning_seconds": chain["finetuning_seconds"].get(labels) if decoder != PROBE else None,
                **_chosen(chain, labels, decoder),
                "commit": chain["commit"],
            }
        )
    return rows


def _chosen(chain: Mapping[str, Any], labels: str, decoder: str) -> dict[str, str]:
    """Return which fine-tuning a cell is of, where there was a choice."""
    if decoder == PROBE or "finetuning" not in chain:
        return {}
    return {"finetuning": chain["finetuning"][labels]["chosen"]}


def _comparisons(settings: Settings, chains: Sequence[tuple[Arm, int]]) -> list[dict[str, Any]]:
    seeds_of = {arm.name: [seed for other, seed in chains if other is arm] for arm, _ in chains}
    arms = {arm.name: arm for arm, _ in chains}
    pairs = [
        (a, b, seeds)
        for b, a in itertools.combinations(seeds_of, 2)
        if b in BASELINES and (seeds := [seed for seed in seeds_of[a] if seed in seeds_of[b]])
    ]
    compared = []
    for labels, decoder, condition in settings.cells:
        together = [
            {
                **{"a": a, "b": b, "labels": labels, "condition": condition, "decoder": decoder, "seeds": seeds},
                **_compare(settings, arms[a], arms[b], seeds, (labels, decoder, condition)),
            }
            for a, b, seeds in pairs
        ]
        compared += _adjusted(together)
    return compared


def _compare(
    settings: Settings, a: Arm, b: Arm, seeds: Sequence[int], cell: tuple[str, str, str]
) -> dict[str, dict[str, Any] | None]:
    """Compare two arms on the utterances of all seeds; the bootstrap takes a speaker's of every seed together."""
    references: dict[str, str] = {}
    texts: dict[str, dict[str, str]] = {a.name: {}, b.name: {}}
    for arm in (a, b):
        for seed in seeds:
            folder = settings.transcripts(arm, seed, *cell)
            references |= {f"seed{seed}-{name}": text for name, text in read_trn(folder / "ref.trn").items()}
            texts[arm.name] |= {f"seed{seed}-{name}": text for name, text in read_trn(folder / "hyp.trn").items()}
    words = compare_texts(references, texts, SCORING).pairs[0]
    letters = [score(references, texts[arm.name], "char") for arm in (a, b)]
    errors_a, errors_b = ([counts.errors for counts in scored.utterances.values()] for scored in letters)
    difference = paired_bootstrap(
        errors_a,
        errors_b,
        [counts.words for counts in letters[0].utterances.values()],
        [name.split("-")[1] for name in references],
        generator=generator_for(0, "bootstrap char"),
        resamples=RESAMPLES,
        level=LEVEL,
    )
    return {
        "cer": asdict(difference) if difference else None,
        "wer": asdict(words.bootstrap) if words.bootstrap else None,
        "mapsswe": asdict(words.matched_pairs),
    }


def _over_seeds(pair: Mapping[str, Any], rows: Mapping[tuple[Any, ...], Any]) -> dict[str, dict[str, Any]]:
    """Return the difference that each common seed shows, and the interval of their mean; rows by arm, seed and cell."""
    cell = (pair["labels"], pair["decoder"], pair["condition"])
    both = [(rows[(pair["a"], seed, *cell)], rows[(pair["b"], seed, *cell)]) for seed in pair["seeds"]]
    differences = {measure: [a[measure] - b[measure] for a, b in both] for measure in ("cer", "wer")}
    intervals = {measure: seeds_interval(values, LEVEL) for measure, values in differences.items()}
    return {"seed_differences": differences, "seed_interval": intervals}


def _adjusted(together: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adjust the p-values of the pairs of one condition for their number; a test without data says nothing."""
    for test in ("cer", "wer", "mapsswe"):
        p_values = [(row[test] or {}).get("p") for row in together]
        for row, adjusted in zip(together, holm([1.0 if p is None else p for p in p_values]), strict=True):
            row[f"{test}_p_adjusted"] = adjusted
    for row in together:
        row["holds"] = max(row["wer_p_adjusted"], row["mapsswe_p_adjusted"]) < 1 - LEVEL
    return together
