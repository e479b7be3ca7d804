"""results.json -> RESULTS.md's tables and a plot for each labels and decoder, error bars per condition."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ccc_w2v.errors import InputError
from ccc_w2v.files import whole, write_whole
from ccc_w2v.score.error_rate import LEVEL

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
MEASURES = {"cer": "CER", "wer": "WER"}


def render_results(results_path: Path, report: Path) -> list[Path]:
    """Write the tables between two marks of ``report`` (at its end, if it has none), and plots beside it.

    Returns the files written. Raises InputError for results that are missing or no results.
    """
    results = _read(results_path)
    groups = sorted({(row["labels"], row["decoder"]) for row in results["rows"]})
    parts, written = [], [report]
    for labels, decoder in groups:
        rows = [row for row in results["rows"] if (row["labels"], row["decoder"]) == (labels, decoder)]
        title = f"{labels} of labels, {_decoder_text(decoder)}"
        plot = report.with_name(f"results_{labels}_{decoder}.svg")
        _plot(rows, results["arms"], title, plot)
        written.append(plot)
        parts += [f"### {title}", "", f"![{title}]({plot.name})", ""]
        for measure, name in MEASURES.items():
            parts += [*_table(rows, results["arms"], measure, name), ""]
    parts += [*_compute_table(results), "", *_choices_table(results), *_comparison_table(results)]
    text = report.read_text(encoding="utf-8") if report.is_file() else f"# Results\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text:
        text += f"\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    body = "\n".join(parts)
    write_whole(report, f"{before}{BEGIN}\n{body}\n{END}{after}")
    return written


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such results; the comparison writes them")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if not results["rows"]:
            raise InputError(f"{path}: holds no row; no run of the comparison has ended yet")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no results of a comparison ({error!r}); write them again") from error
    return results


def _decoder_text(decoder: str) -> str:
    return {"greedy": "greedy", "lm": "with a word n-gram", "probe": "probe on frozen features"}.get(decoder, decoder)


def _conditions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the conditions in the order in which the rows name them: clean first."""
    return list(dict.fromkeys(row["condition"] for row in rows))


def _cells(rows: Sequence[Mapping[str, Any]], arm: str, condition: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["arm"] == arm and row["condition"] == condition]


def _table(rows: Sequence[Mapping[str, Any]], arms: Mapping[str, str], measure: str, name: str) -> list[str]:
    """Lay out one measure: a line for each arm, the mean over seeds and the interval around it."""
    conditions = _conditions(rows)
    lines = [f"| {name}, % | seeds | {' | '.join(conditions)} |", f"|---|---|{'---|' * len(conditions)}"]
    for arm, title in arms.items():
        shown = [_cells(rows, arm, condition) for condition in conditions]
        if any(shown):
            lines.append(f"| {title} | {len(shown[0])} | {' | '.join(_cell(cell, measure) for cell in shown)} |")
    return lines


def _cell(cell: Sequence[Mapping[str, Any]], measure: str) -> str:
    """Return the mean of an arm's seeds, the mean ends of their intervals (over speakers), and how far seeds reach."""
    if not cell:
        return "-"
    value = f"{100 * mean(row[measure] for row in cell):.1f}"
    intervals = [row[f"{measure}_interval"] for row in cell if row[f"{measure}_interval"]]
    if len(intervals) < len(cell):
        return value
    low, high = (100 * mean(interval[end] for interval in intervals) for end in (0, 1))
    rates = [100 * row[measure] for row in cell]
    seeds = f", seeds {min(rates):.1f} to {max(rates):.1f}" if len(cell) > 1 else ""
    return f"{value} ({low:.1f} to {high:.1f}{seeds})"


def _compute_table(results: Mapping[str, Any]) -> list[str]:
    lines = ["| pre-training | encoder passes | seconds x processes, mean | seeds | commit |", "|---|---|---|---|---|"]
    for arm, title in results["arms"].items():
        runs = {row["seed"]: row for row in results["rows"] if row["arm"] == arm}
        if runs:
            passes = sorted({row["encoder_passes"] for row in runs.values()})
            commits = sorted({row["commit"] for row in runs.values()})
            seconds = mean(row["seconds"] * row.get("processes", 1) for row in runs.values())
            seeds = ", ".join(map(str, sorted(runs)))
            lines.append(
                f"| {title} | {', '.join(map(str, passes))} | {seconds:.0f} | {seeds} | {', '.join(commits)} |"
            )
    return lines


def _choices_table(results: Mapping[str, Any]) -> list[str]:
    """Lay out which fine-tuning dev chose for each seed of an arm, of those whose record says it; else nothing."""
    chosen = {
        (row["arm"], row["labels"], row["seed"]): row["finetuning"] for row in results["rows"] if "finetuning" in row
    }
    if not chosen:
        return []
    labels = sorted({of_labels for _, of_labels, _ in chosen})
    lines = [f"| fine-tuning chosen on dev | seeds | {' | '.join(labels)} |", f"|---|---|{'---|' * len(labels)}"]
    for arm, title in results["arms"].items():
        seeds = sorted({seed for other, _, seed in chosen if other == arm})
        cells = [", ".join(chosen.get((arm, of_labels, seed), "-") for seed in seeds) for of_labels in labels]
        if seeds:
            lines.append(f"| {title} | {', '.join(map(str, seeds))} | {' | '.join(cells)} |")
    return [*lines, ""]


def _comparison_table(results: Mapping[str, Any]) -> list[str]:
    """Lay out the paired comparisons: negative where the first arm errs less."""
    arms, compared = results["arms"], results["comparisons"]
    # Results of before have no intervals over seeds.
    several = any(row.get("seed_interval", {}).get("cer") for row in compared)
    heads = ["A - B", "labels", "decoder", "condition", "CER, points", "p", "WER, points", "p", "p, MAPSSWE", "holds"]
    if several:
        heads += ["CER by seed", "WER by seed", "holds over seeds"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in compared:
        of_letters, of_words, matched = (f"{row[f'{test}_p_adjusted']:.4f}" for test in ("cer", "wer", "mapsswe"))
        holds = _which({"CER": row["cer_p_adjusted"] < 1 - LEVEL, "WER": row["holds"]})
        what = [f"{arms[row['a']]} - {arms[row['b']]}", row["labels"], row["decoder"], row["condition"]]
        measured = [_difference(row["cer"]), of_letters, _difference(row["wer"]), of_words, matched]
        lines.append(f"| {' | '.join([*what, *measured, holds, *(_by_seed(row) if several else [])])} |")
    return lines if compared else ["No two arms with a common seed are compared yet."]


def _by_seed(row: Mapping[str, Any]) -> list[str]:
    """Return the difference of each seed with the interval of their mean, and which of CER and WER it tells apart."""
    shown = []
    for measure in MEASURES:
        values = ", ".join(f"{100 * value:+.1f}" for value in row["seed_differences"][measure])
        shown.append(f"{values}{_ends(row['seed_interval'][measure])}")
    apart = {name: _without_zero(row["seed_interval"][measure]) for measure, name in MEASURES.items()}
    return [*shown, _which(apart) if row["seed_interval"]["cer"] else "one seed"]


def _without_zero(interval: Sequence[float] | None) -> bool:
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _which(differs: Mapping[str, bool]) -> str:
    return " and ".join(measure for measure, differing in differs.items() if differing) or "neither"


def _ends(interval: Sequence[float] | None) -> str:
    """Return an interval in points, in brackets; nothing where there is none."""
    return f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})" if interval else ""


def _difference(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return "-"
    return f"{100 * difference['value']:+.1f}{_ends(difference['interval'])}"


def _plot(rows: Sequence[Mapping[str, Any]], arms: Mapping[str, str], title: str, path: Path) -> None:
    """Draw CER and WER of arms by condition: mean over seeds, bars over intervals, a point for each seed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    conditions = _conditions(rows)
    shown = {arm: name for arm, name in arms.items() if any(row["arm"] == arm for row in rows)}
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(len(MEASURES), 1, sharex=True)
    for panel, (measure, name) in zip(panels, MEASURES.items(), strict=True):
        for number, (arm, arm_title) in enumerate(shown.items()):
            places = [place + 0.8 * ((number + 0.5) / len(shown) - 0.5) for place in range(len(conditions))]
            cells = [_cells(rows, arm, condition) for condition in conditions]
            present = [(place, cell) for place, cell in zip(places, cells, strict=True) if cell]
            values = [100 * mean(row[measure] for row in cell) for _, cell in present]
            bars = [
                _bar([row[f"{measure}_interval"] for row in cell], value)
                for (_, cell), value in zip(present, values, strict=True)
            ]
            panel.errorbar(
                [place for place, _ in present],
                values,
                yerr=[[low for low, _ in bars], [high for _, high in bars]],
                fmt="o",
                capsize=3,
                label=arm_title,
            )
            for place, cell in present:
                panel.plot([place] * len(cell), [100 * row[measure] for row in cell], "k.", markersize=2)
        panel.set(ylabel=f"{name}, %")
        panel.grid(axis="y", alpha=0.3)
    panels[0].set(title=title)
    # Inside a panel it would cover bars.
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize="small", ncols=3)
    panels[-1].set_xticks(range(len(conditions)), conditions)
    # The same results make the same file.
    with rc_context({"svg.hashsalt": "results"}), whole(path, overwrite=True) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None})


def _bar(intervals: Sequence[Sequence[float] | None], value: float) -> tuple[float, float]:
    """Return how far the mean interval reaches below and above the mean."""
    known = [interval for interval in intervals if interval]
    if len(known) < len(intervals):
        return 0.0, 0.0
    low, high = (100 * mean(interval[end] for interval in known) for end in (0, 1))
    return max(0.0, value - low), max(0.0, high - value)
