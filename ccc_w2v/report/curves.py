"""Curves of trainings on one page: several runs, against updates, hours processed and seconds, with the bands."""

from __future__ import annotations

import base64
import importlib.resources
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ccc_w2v.errors import InputError
from ccc_w2v.files import whole, write_whole
from ccc_w2v.training.health.history import read_history
from ccc_w2v.training.health.rules import Rule
from ccc_w2v.training.health.verdict import Row, Verdict, judge

# What may run along the x axis: its label, and the name in a row and the unit that it is divided by.
AXES = {
    "updates": ("updates", "update", 1.0),
    "hours": ("hours of audio processed", "audio_seconds", 3600.0),
    "seconds": ("seconds of training", "train_seconds", 1.0),
}
COLOURS = ("#2f5d8c", "#b3561d", "#3b7a3e", "#8a3f8f", "#6d6a1f", "#1d7b80")
MARKS = ("o", "s", "^", "D", "v", "P")
STYLES = ("-", "--", ":", "-.")
BANDS = {"watch": "#fcefd2", "collapsed": "#f9d3d3"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "ccc_w2v", "font.family": "sans-serif", "font.size": 9}


@dataclass(frozen=True)
class Panel:
    """A signal, what to call it, what a newcomer should look for; the scale of its axis, and its ends."""

    signal: str
    title: str
    advice: str
    scale: str = "linear"
    bottom: float | None = None
    top: float | None = None


PANELS = (
    Panel("below_chance_contrastive", "Bits better than guessing", "should leave 0 early and rise"),
    Panel("loss_contrastive", "Contrastive loss [bits]", "a fall with fewer codes is no progress"),
    Panel("accuracy_contrastive", "Right answers among the negatives", "rises slowly; 1 is a collapse", bottom=0),
    Panel("code_perplexity_share", "Codes in use (perplexity / codes)", "high and steady", bottom=0, top=1),
    Panel("equal_code_share", "Negatives with the positive's code", "a few per cent", bottom=0),
    Panel("near_positive_share", "Negatives called near positives", "low: enough clusters", bottom=0),
    Panel("context_variance", "Variance of contexts (0 all alike)", "dips at the start, then rises", scale="log"),
    Panel("view_cosine_target", "Nearness of the two views", "below 1, else the views are the same"),
    Panel("valid_letter_error", "Letter error in validation [%]", "near 100 is the plateau of the CTC loss", bottom=0),
    Panel("valid_loss", "Loss in validation [bits a letter]", "a rise says that labels are learnt by heart", bottom=0),
    Panel("gnorm", "Gradient norm", "no spikes that stay", scale="log"),
)


@dataclass(frozen=True)
class RunCurves:
    """A run by the name that tells it from the others, with its history and the verdict on it."""

    name: str
    rows: Sequence[Row]
    verdict: Verdict


def read_runs(folders: Sequence[Path], rules: Sequence[Rule]) -> list[RunCurves]:
    """Read runs and name each by as much of its path as tells it from the others. Raises InputError as read_history."""
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise InputError("the same run is named twice; name every folder once")
    histories = [read_history(folder) for folder in folders]
    return [
        RunCurves(name, rows, judge(rows, rules)) for name, rows in zip(_short_names(paths), histories, strict=True)
    ]


def _short_names(paths: Sequence[Path]) -> list[str]:
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def draw(runs: Sequence[RunCurves], rules: Sequence[Rule], axis: str) -> Figure:
    """Draw a panel for each signal that a run has, its bands behind the curves, and one legend for all."""
    label, key, unit = AXES[axis]
    panels = [panel for panel in PANELS if any(_points(run.rows, key, panel.signal, unit) for run in runs)]
    if not panels:
        raise InputError(f"no run has values against {label}; an older log has updates only: --against updates")
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.7 * lines + 0.9), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    drawn_bands: set[str] = set()
    for place, panel in zip(axes.flat, panels, strict=False):
        for index, run in enumerate(runs):
            points = _points(run.rows, key, panel.signal, unit)
            if points:
                place.plot(*zip(*points, strict=True), label=run.name, **_look(index, len(points)))
        place.set_title(panel.title, loc="left", fontweight="bold", fontsize=10)
        place.set_xlabel(f"{label}   ({panel.advice})", fontsize=8)
        place.set_yscale(panel.scale)
        place.set_ylim(bottom=panel.bottom, top=panel.top)
        drawn_bands |= _shade(place, panel.signal, rules, lambda update: _place_of(runs, key, unit, update))
        place.grid(color="#dedfdb", linewidth=0.6)
        place.spines[["top", "right"]].set_visible(False)
    _legend(figure, runs, drawn_bands)
    return figure


def _points(rows: Sequence[Row], key: str, signal: str, unit: float) -> list[tuple[float, float]]:
    return [
        (row[key] / unit, row[signal])
        for row in rows
        if key in row and math.isfinite(row.get(signal, math.nan)) and math.isfinite(row[key])
    ]


def _look(index: int, points: int) -> dict[str, Any]:
    """Return a run's style of line: runs differ in colour and mark, and from the seventh on in the dashes."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKS[index % len(MARKS)],
        "linestyle": STYLES[index // len(COLOURS) % len(STYLES)],
        "markersize": 3.5,
        "markevery": max(1, points // 12),
        "linewidth": 1.4,
    }


def _place_of(runs: Sequence[RunCurves], key: str, unit: float, update: int) -> float:
    """Return where along the axis a run first reaches an update; beyond everything if none does."""
    return min(
        (row[key] / unit for run in runs for row in run.rows if key in row and row["update"] >= update),
        default=math.inf,
    )


def _shade(place: Any, signal: str, rules: Sequence[Rule], place_of: Callable[[int], float]) -> set[str]:
    """Colour what the rules call watch and collapsed, from where they apply; return the statuses to be seen."""
    (left, right), (bottom, top) = place.get_xlim(), place.get_ylim()
    seen = set()
    for status in BANDS:  # collapsed lies over watch
        for rule in rules:
            condition = rule.conditions[0]
            begin = left if rule.from_update <= 100 else place_of(rule.from_update)
            if rule.status != status or condition.signal != signal or begin >= right:
                continue
            low = max(bottom, condition.above) if condition.above is not None else bottom
            high = min(top, condition.below) if condition.below is not None else top
            if low < high:
                corner, size = (begin, low), (right - begin, high - low)
                place.add_patch(Rectangle(corner, *size, color=BANDS[status], zorder=0, linewidth=0))
                seen.add(status)
    place.set_xlim(left, right)
    place.set_ylim(bottom, top)
    return seen


def _legend(figure: Figure, runs: Sequence[RunCurves], bands: set[str]) -> None:
    lines = [
        Line2D([], [], label=f"{run.name} ({run.verdict.status})", **_look(index, 1)) for index, run in enumerate(runs)
    ]
    patches = [
        Patch(color=colour, label=f"where the rules say {status}")
        for status, colour in BANDS.items()
        if status in bands
    ]
    figure.legend(handles=[*lines, *patches], loc="outside upper left", ncols=4, frameon=False)


def write_page(runs: Sequence[RunCurves], rules: Sequence[Rule], page: Path, settings: Mapping[str, Any]) -> None:
    """Write one self-contained HTML page: the verdict on each run, and the curves against each axis that they have."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("ccc_w2v", "report"), autoescape=True)
    style = (importlib.resources.files("ccc_w2v.report") / "page.css").read_text(encoding="utf-8")
    pictures = {
        label: _data_uri(draw(runs, rules, axis))
        for axis, (label, key, _) in AXES.items()
        if any(key in row for run in runs for row in run.rows)
    }
    text = environment.get_template("curves.html.j2").render(
        runs=runs, pictures=pictures, panels=PANELS, style=style, settings=json.dumps(dict(settings))
    )
    write_whole(page, text)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole(path, overwrite=True) as partial, matplotlib.rc_context(STYLE):
        figure.savefig(partial, format="png", dpi=110)


def _data_uri(figure: Figure) -> str:
    """Return a figure as an image that is part of the page."""
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode()}"
