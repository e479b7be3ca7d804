"""The curves of `scale` as a picture: one panel for each axis, time and memory against it on logarithmic scales."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccc_w2v.files import appearing

COLUMNS = 4


def plot(path: Path, curves: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw each axis's time, memory or rate as a multiple of its first, beside the line of linear growth."""
    from matplotlib.figure import Figure

    rows = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 3.0 * rows), layout="constrained")
    for number, (axis, curve) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        values = curve["values"]
        for name, label in (("seconds", "time"), ("peak_mib", "memory"), ("times_real_time", "rate")):
            if name in curve:
                axes.plot(values, [value / curve[name][0] for value in curve[name]], marker="o", label=label)
        first = next((value for value in values if value), 1)
        axes.plot(
            values, [value / first if value else 1 for value in values], color="0.7", linestyle=":", label="linear"
        )
        # From no worker on there is no logarithm.
        if min(values) > 0:
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
        axes.set(xlabel=axis, ylabel="of the first")
        axes.legend(frameon=False, fontsize="small")
    with appearing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
