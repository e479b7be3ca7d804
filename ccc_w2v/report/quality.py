"""A table and a picture of what each layer and the codes know of phones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

COLUMNS = {
    "phone_purity": "phone purity",
    "unit_purity": "unit purity",
    "pnmi": "PNMI",
    "units": "units",
    "abx_within": "ABX within",
    "abx_across": "ABX across",
}
CURVES = {
    "PNMI and phone purity of k-means units (higher is better)": ("pnmi", "phone_purity"),
    "ABX error of frames (lower is better, 0.5 is chance)": ("abx_within", "abx_across"),
}
COLOURS = ("#2f5d8c", "#b3561d")


def quality_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table of text; ABX columns only where it was measured."""
    columns = {name: title for name, title in COLUMNS.items() if any(name in row for row in rows)}
    width = max(len(row["of"]) for row in rows)
    lines = [" " * width + "".join(f"{title:>14}" for title in columns.values())]
    lines += [f"{row['of']:<{width}}" + "".join(f"{_shown(row.get(name)):>14}" for name in columns) for row in rows]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def quality_figure(rows: Sequence[Mapping[str, Any]], phones: str) -> Figure:
    """Draw the measures over the layers, and those of the codes as dashed lines."""
    layers = [row for row in rows if "layer" in row]
    codes = next((row for row in reversed(rows) if "layer" not in row), None)
    curves = {title: names for title, names in CURVES.items() if any(name in rows[0] for name in names)}
    figure = Figure(figsize=(5.6 * len(curves), 4.2), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (title, names) in zip(panels, curves.items(), strict=True):
        for colour, name in zip(COLOURS, names, strict=True):
            label = COLUMNS[name]
            panel.plot([row["layer"] for row in layers], [row[name] for row in layers], "o-", color=colour, label=label)
            if codes is not None and not math.isnan(codes.get(name, math.nan)):
                panel.axhline(codes[name], color=colour, linestyle="--", linewidth=1, label=f"{label} of the codes")
        panel.set_title(title, loc="left", fontsize=9, fontweight="bold")
        panel.set_xlabel(f"layer (0 enters the Transformer); phones are {phones}", fontsize=8)
        panel.set_xticks([row["layer"] for row in layers])
        panel.set_ylim(bottom=0)
        panel.grid(color="#dedfdb", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    return figure
