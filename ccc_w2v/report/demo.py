"""What a demo run came to: pre-trained beside random weights, as numbers, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccc_w2v.files import whole

RANDOM, PRETRAINED = "from random weights", "after pre-training"
RATES = {"cer": "char", "wer": "word"}
COLOURS = {RANDOM: "#b3561d", PRETRAINED: "#2f5d8c"}


def compared(random: Path, pretrained: Path) -> dict[str, Any]:
    """Return both folders' rates of words and letters with intervals, and their paired difference.

    Each folder holds hyp.trn and ref.trn of the same utterances.
    """
    from ccc_w2v.data.randomness import generator_for
    from ccc_w2v.score.bootstrap import paired_bootstrap
    from ccc_w2v.score.options import ScoringOptions
    from ccc_w2v.score.scorecard import measure, read_texts
    from ccc_w2v.score.wer import score

    folders = {RANDOM: random, PRETRAINED: pretrained}
    references = read_texts(pretrained / "ref.trn", "none")
    cards = {name: measure(path / "ref.trn", path / "hyp.trn", ScoringOptions()) for name, path in folders.items()}
    row: dict[str, Any] = {"utterances": len(references)}
    for rate, unit in RATES.items():
        measured = {name: card.cer if rate == "cer" else card.wer for name, card in cards.items()}
        row[rate] = {name: {"rate": value.rate, "interval": value.interval} for name, value in measured.items()}
        scores = [score(references, read_texts(folders[name] / "hyp.trn", "none"), unit) for name in folders]
        of_random, of_pretrained = ([counts.errors for counts in scored.utterances.values()] for scored in scores)
        units = [counts.words for counts in scores[0].utterances.values()]
        generator = generator_for(0, f"bootstrap {unit}")
        difference = paired_bootstrap(of_pretrained, of_random, units, generator=generator)
        row[rate]["difference"] = difference and {
            "rate": difference.value,
            "interval": list(difference.interval),
            "p": difference.p,
        }
        row[f"{unit}s"] = sum(units)
    return row


def table(results: Mapping[str, Any]) -> str:
    """Lay the error rates out: a row for each system and rate, random and pre-trained beside each other."""
    lines = [f"\n{'held-out prompts':<26}" + "".join(f"{name:>25}" for name in (RANDOM, PRETRAINED, "difference"))]
    for system, row in results.items():
        for rate in RATES:
            values = row[rate]
            cells = [_with_interval(values[name]) for name in (RANDOM, PRETRAINED)]
            cells.append(_with_interval(values["difference"], signed=True) if values["difference"] else "-")
            lines.append(f"{rate.upper() + ', ' + system:<26}" + "".join(f"{cell:>25}" for cell in cells))
    for row in list(results.values())[:1]:
        lines.append(
            f"{row['utterances']} utterances, {row['words']} words; brackets: 95 % bootstrap interval; difference: "
            "pre-trained minus random on the same utterances"
        )
    return "\n".join(lines)


def _with_interval(value: dict[str, Any], signed: bool = False) -> str:
    sign = "+" if signed else ""
    interval = value["interval"]
    shown = f" ({interval[0]:{sign}.1%} to {interval[1]:{sign}.1%})" if interval else ""
    return f"{value['rate']:{sign}.1%}{shown}"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the error rates with their intervals: a group of bars for each system and rate, as SVG or PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(RATES), sharey=True)
    for panel, rate in zip(panels, RATES, strict=True):
        for offset, name in ((-0.2, RANDOM), (0.2, PRETRAINED)):
            values = [row[rate][name] for row in results.values()]
            places = [index + offset for index in range(len(values))]
            heights = [100 * value["rate"] for value in values]
            bars = panel.bar(places, heights, 0.38, color=COLOURS[name])
            bars.set_label(name)
            ends = [[100 * end for end in value["interval"] or (value["rate"],) * 2] for value in values]
            lengths = [
                [max(0.0, height - low) for height, (low, _) in zip(heights, ends, strict=True)],
                [max(0.0, high - height) for height, (_, high) in zip(heights, ends, strict=True)],
            ]
            panel.errorbar(places, heights, lengths, fmt="none", ecolor="black", capsize=3)
            for place, height in zip(places, heights, strict=True):
                panel.annotate(f"{height:.0f}", (place, 1), ha="center", va="bottom", color="white", fontsize=9)
        panel.set_xticks(range(len(results)), [name.replace(", ", ",\n") for name in results])
        panel.set_title({"cer": "letters wrong (CER)", "wer": "words wrong (WER)"}[rate], fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% (lower is better)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ccc_w2v"}), whole(path, overwrite=True) as partial:
        figure.savefig(partial, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else {})
