"""Error rates over classes of utterances as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ccc_w2v.score.scorecard import Part

# Colours that stand for the page's own, which differ between its light and its dark form.
_INK, _MUTED, _RULE = "#010101", "#020202", "#030303"
SYSTEM_COLOURS = 6
_SYSTEMS = [f"#0400{index:02x}" for index in range(SYSTEM_COLOURS)]
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _RULE: "--rule"} | {
    colour: f"--system-{index}" for index, colour in enumerate(_SYSTEMS)
}
# A system is told by its mark too, not by its colour alone; the page's legend shows the same ones.
MARKS = {"o": "\u25cf", "s": "\u25a0", "^": "\u25b2", "D": "\u25c6", "v": "\u25bc", "P": "\u271a"}
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "ccc_w2v", "font.family": "sans-serif", "font.size": 9}


def plot_rates(systems: Sequence[Mapping[str, Part]], description: str) -> str:
    """Return an <svg> of the error rate of each class with its interval, a column of points for each system.

    ``systems`` are breakdowns of Scorecards with the same classes; ``description`` is what a screen reader
    says. The SVG names no address and holds no text but class names and numbers.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axes = figure.add_subplot()
        names = list(systems[0])
        for index, breakdown in enumerate(systems):
            shift = 0.16 * (index - (len(systems) - 1) / 2)
            _draw(axes, [breakdown[name] for name in names], shift, index)
        counts = [systems[0][name].utterances for name in names]
        axes.set_xticks(range(len(names)), [f"{_short(name)}\nn={n}" for name, n in zip(names, counts, strict=True)])
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.grid(axis="y", color=_RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_MUTED, length=0)
        axes.spines[:].set_visible(False)
        axes.spines["bottom"].set(visible=True, color=_MUTED)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        content = io.StringIO()
        figure.savefig(content, format="svg")
    return _inline(content.getvalue(), description)


def _draw(axes: Any, parts: Sequence[Part], shift: float, index: int) -> None:
    colour, mark = _SYSTEMS[index % SYSTEM_COLOURS], list(MARKS)[index % len(MARKS)]
    places = [place + shift for place in range(len(parts))]
    for place, part in zip(places, parts, strict=True):
        if part.wer.interval:
            axes.plot([place] * 2, [100 * bound for bound in part.wer.interval], color=colour, linewidth=2, alpha=0.45)
    axes.plot(places, [100 * part.wer.rate for part in parts], mark, color=colour, markersize=6, linestyle="none")


def _short(name: str) -> str:
    """Shorten a class's name to what fits under its points: the axis says words or decibels once."""
    for long, short in ((" words", ""), (" dB", ""), (" to ", "-"), ("over ", "> "), ("0 or less", "< 0")):
        name = name.replace(long, short)
    return name.replace("-", "\u2013")


def _inline(svg: str, description: str) -> str:
    """Return what stands in a page: no prologue, no metadata, no namespaces, colours as the page's variables."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = (
        re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", svg.split(">", 1)[0])
        + ">"
        + svg.split(">", 1)[1]
    )
    svg = svg.replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
