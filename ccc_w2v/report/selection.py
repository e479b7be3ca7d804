"""What a selection of utterances left of a manifest: hours, speakers, lengths, clusters; a table and a picture.

Letters: N utterances, K clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#9aa3ab", "#2f5d8c")
BARS = 25
ROWS = {
    "utterances": "utterances",
    "hours": "hours",
    "speakers": "speakers",
    "median_seconds": "median length [s]",
    "shortest_seconds": "shortest [s]",
    "longest_seconds": "longest [s]",
    "clusters": "clusters with any",
    "cluster_perplexity": "perplexity of clusters' hours",
}


def selection_summary(
    seconds_N: np.ndarray, speakers: Sequence[str] | None, labels_N: np.ndarray | None
) -> dict[str, Any]:
    """Return hours, speakers, lengths and coverage of clusters of some utterances; what is not known is left out.

    The perplexity of the clusters' hours is their number if they hold equally much, and near 1 if one holds nearly all.
    """
    summary: dict[str, Any] = {
        "utterances": len(seconds_N),
        "hours": float(seconds_N.sum() / 3600),
        "mean_seconds": float(seconds_N.mean()),
        "median_seconds": float(np.median(seconds_N)),
        "shortest_seconds": float(seconds_N.min()),
        "longest_seconds": float(seconds_N.max()),
    }
    if speakers is not None:
        summary["speakers"] = len(set(speakers))
    if labels_N is not None:
        share_K = np.bincount(labels_N, weights=seconds_N) / seconds_N.sum()
        used_K = share_K[share_K > 0]
        summary["clusters"] = len(used_K)
        summary["cluster_perplexity"] = float(np.exp(-(used_K * np.log(used_K)).sum()))
    return summary


def selection_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return both summaries side by side as a table of text."""
    rows = {name: title for name, title in ROWS.items() if name in before}
    width = max(map(len, rows.values()))
    lines = [f"{'':<{width}}{'before':>12}{'chosen':>12}"]
    lines += [f"{title:<{width}}{_shown(before[name]):>12}{_shown(after[name]):>12}" for name, title in rows.items()]
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def selection_figure(seconds_N: np.ndarray, chosen_N: np.ndarray, labels_N: np.ndarray | None, way: str) -> Figure:
    """Draw the share of audio by length and, where utterances were clustered, by cluster: of all and of the chosen."""
    panels = 1 if labels_N is None else 2
    figure = Figure(figsize=(5.6 * panels, 4.0), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    edges = np.histogram_bin_edges(seconds_N, BARS)
    parts = {"all": np.ones_like(chosen_N), f"chosen by {way}": chosen_N}
    for colour, (name, part_N) in zip(COLOURS, parts.items(), strict=True):
        weights = seconds_N[part_N] / seconds_N[part_N].sum()
        axes[0].hist(seconds_N[part_N], edges, weights=weights, color=colour, label=name, alpha=0.7)
    axes[0].set_title("share of the audio by length of the utterance", loc="left", fontsize=9, fontweight="bold")
    axes[0].set_xlabel("seconds", fontsize=8)
    if labels_N is not None:
        shares = [
            np.bincount(labels_N, weights=seconds_N * part_N, minlength=labels_N.max() + 1) for part_N in parts.values()
        ]
        order = np.argsort(-shares[0], kind="stable")
        for colour, (name, share) in zip(COLOURS, zip(parts, shares, strict=True), strict=True):
            axes[1].step(range(len(order)), (share / share.sum())[order], where="mid", color=colour, label=name)
        axes[1].set_title("share of the audio by cluster", loc="left", fontsize=9, fontweight="bold")
        axes[1].set_xlabel("clusters, the largest first", fontsize=8)
    for panel in axes:
        panel.set_ylim(bottom=0)
        panel.grid(axis="y", color="#dedfdb", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    return figure
