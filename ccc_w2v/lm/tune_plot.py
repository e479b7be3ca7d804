"""What the error rate is over the weights of a beam search: a contour, or a curve where there is one weight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccc_w2v.lm.tune import WeightTrial, best_of

LEVELS = 12
# Rates above this share of the trials are one colour: a few bad corners would hide the valley.
SHOWN = 0.8


def plot_trials(path: Path, trials: Sequence[WeightTrial], *, words_scored: bool) -> None:
    """Draw the trials, the first (untuned) and the best marked, as a PNG; ``words_scored``: over two weights."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    rates = np.array([100 * trial.error_rate for trial in trials])
    weights = np.array([(trial.lm_weight, trial.word_score) for trial in trials])
    heights = weights[:, 1] if words_scored else rates
    if words_scored:
        _contour(figure, axes, weights, rates)
    else:
        order = weights[:, 0].argsort(kind="stable")
        axes.plot(weights[order, 0], rates[order], color="0.6", zorder=1)
    axes.margins(0.03)
    axes.scatter(weights[:, 0], heights, s=18, color="0.2", edgecolor="white", linewidth=0.6, label="trials", zorder=2)
    best = list(trials).index(best_of(list(trials)))
    for index, mark, colour, name in ((0, "^", "tab:orange", "untuned"), (best, "*", "tab:red", "best")):
        label = f"{name}: {rates[index]:.2f} %"
        axes.scatter(
            weights[index, 0],
            heights[index],
            s=130,
            marker=mark,
            color=colour,
            edgecolor="white",
            label=label,
            zorder=3,
        )
    axes.set(xlabel="LM weight", ylabel="word score" if words_scored else "word error rate [%]")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, format="png", dpi=150)


def _contour(figure: Any, axes: Any, weights: np.ndarray, rates: np.ndarray) -> None:
    """Colour the plane between the trials; on a line, or with fewer than three, there is none."""
    if np.linalg.matrix_rank(weights - weights[0]) < 2:
        return
    lowest, highest = rates.min(), np.quantile(rates, SHOWN)
    if highest <= lowest:
        return
    levels = np.linspace(lowest, highest, LEVELS)
    filled = axes.tricontourf(*weights.T, rates, levels=levels, cmap="viridis_r", extend="max")
    figure.colorbar(filled, ax=axes, label="word error rate [%]", format="%.1f")
