"""One HTML file about one or more decodings of a test set, which needs nothing but a browser: no network, no folder."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from ccc_w2v.data.decoding import read_settings
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.report.audio import data_uris, estimate_all, find_recordings
from ccc_w2v.report.plots import MARKS, SYSTEM_COLOURS, plot_rates
from ccc_w2v.report.snr import snr_class
from ccc_w2v.score.alignment import Pair, align
from ccc_w2v.score.compare import compare_texts, read_systems
from ccc_w2v.score.error_rate import LEVEL
from ccc_w2v.score.options import ScoringOptions
from ccc_w2v.score.scorecard import BREAKDOWNS, measure_texts

PLOTTED = ("by_length", "by_snr")
TEMPLATE, SCRIPT, STYLE = "page.html.j2", "page.js", "page.css"


@dataclass(frozen=True)
class Limits:
    """How many of the worst utterances are shown, and how many bytes their audio may take as text."""

    utterances: int = 30
    audio_bytes: int = 16_000_000


def build_report(
    systems: Sequence[str | Path],
    options: ScoringOptions,
    *,
    reference_path: str | Path | None = None,
    manifest_path: str | Path | None = None,
    title: str = "Word error rates",
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Return all that the page shows, as plain data; ``systems`` and references as in compare.compare.

    With a manifest the worst utterances can be heard, and rates are split by estimated signal-to-noise ratio. Raises
    InputError as compare, measure_texts and the reading of audio do, and for a system named twice or too many.
    """
    limits = limits or Limits()
    names = [str(system) for system in systems]
    if not 0 < len(set(names)) == len(names) <= SYSTEM_COLOURS:
        raise InputError(f"found the systems {', '.join(names)}; expected one to {SYSTEM_COLOURS}, each once")
    references, hypotheses = read_systems(systems, reference_path, options.rules)
    recordings = find_recordings(read_manifest(manifest_path), references) if manifest_path else None
    seconds, ratios = estimate_all(recordings, references) if recordings else ({}, {})
    classes = {utterance: snr_class(ratio) for utterance, ratio in ratios.items()}
    cards = {name: measure_texts(references, texts, options, classes) for name, texts in hypotheses.items()}
    first = cards[names[0]]
    utterances = [
        {"id": utterance, "seconds": seconds.get(utterance), "snr": ratios.get(utterance), **row}
        for utterance, row in _worst(references, hypotheses, limits.utterances)
    ]
    shown = [row["id"] for row in utterances]
    audio = data_uris(recordings, shown, limits.audio_bytes) if recordings else {}
    return {
        "title": title,
        "systems": [
            {
                "name": name,
                "label": label,
                "mark": mark,
                **cards[name].as_dict(),
                "settings": read_settings(_folder(Path(name))),
            }
            for name, label, mark in zip(names, _labels(names), MARKS.values(), strict=False)
        ],
        "pairs": compare_texts(references, hypotheses, options).pairs,
        "breakdowns": {key: BREAKDOWNS[key] for key in first.breakdowns},
        "plots": {
            key: plot_rates(
                [card.breakdowns[key] for card in cards.values()], f"WER by {BREAKDOWNS[key]}; numbers in the table"
            )
            for key in PLOTTED
            if key in first.breakdowns
        },
        "utterances": utterances,
        "audio": audio,
        "audio_left_out": len(shown) - len(audio) if recordings else 0,
        "manifest": manifest_path and str(manifest_path),
        "audio_megabytes": limits.audio_bytes / 1e6,
        "provenance": first.provenance.lines(),
        "level": LEVEL,
    }


def _worst(
    references: Mapping[str, str], hypotheses: Mapping[str, Mapping[str, str]], most: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the utterances with the most errors of all systems together, at equal numbers those with fewer words.

    Utterances without an error are left out.
    """
    candidates = []
    for utterance, reference in references.items():
        pairs = {name: align(reference.split(), texts[utterance].split()) for name, texts in hypotheses.items()}
        errors = sum(left != right for aligned in pairs.values() for left, right in aligned)
        candidates.append((-errors, len(reference.split()), utterance, pairs))
    for errors, words, utterance, pairs in sorted(candidates, key=lambda candidate: candidate[:3])[:most]:
        if errors:
            rows = {name: list(_runs(aligned)) for name, aligned in pairs.items()}
            yield utterance, {"errors": -errors, "words": words, "rows": rows}


def _runs(pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """Yield errors one by one and what lies between two of them together: kind is ok, sub, del or ins."""
    correct: list[Pair] = []
    for left, right in [*pairs, (None, None)]:
        if left == right and left is not None:
            correct.append((left, right))
            continue
        if correct:
            yield {"kind": "ok", "pairs": correct}
            correct = []
        if left != right:
            kind = "ins" if left is None else "del" if right is None else "sub"
            yield {"kind": kind, "pairs": [(left, right)]}


def _labels(names: Sequence[str]) -> list[str]:
    """Return the ends of paths that tell them apart, as few folders as it takes."""
    parts = [Path(name).parts for name in names]
    for count in range(1, max(map(len, parts))):
        labels = [str(Path(*path_parts[-count:])) for path_parts in parts]
        if len(set(labels)) == len(labels):
            return labels
    return list(names)


def _folder(system: Path) -> Path:
    return system if system.is_dir() else system.parent


def render(report: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> str:
    """Return the page, with the ``settings`` that it was made with in its head.

    All text of the report is escaped, and the page's policy (Content-Security-Policy) lets no other script run than its
    own and keeps the browser from fetching anything.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ccc_w2v", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.2f}\u2009%"
    environment.filters["p_value"] = lambda value: f"{value:.4f}" if value >= 1e-4 else "< 0.0001"
    loader = environment.loader
    assert loader is not None
    script, style = (loader.get_source(environment, name)[0] for name in (SCRIPT, STYLE))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(TEMPLATE).render(
        **report,
        settings=json.dumps(dict(settings or {})),
        script=script,
        style=style,
        digest=digest,
        made=datetime.date.today().isoformat(),
    )
