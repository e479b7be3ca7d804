"""One picture and one table of which groups of codes lead to which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from ccc_w2v.probe.code_flow import FlowClusters


def flow_rows(clusters: FlowClusters, weights_NN: torch.Tensor) -> list[dict[str, Any]]:
    """Return for each cluster its codes, most used first, its share of the transitions, and where they go on net."""
    use_N = weights_NN.sum(dim=0) + weights_NN.sum(dim=1)
    net_KK = clusters.flow_KK - clusters.flow_KK.T
    rows = []
    for cluster in range(len(net_KK)):
        members = [code for code in use_N.argsort(descending=True).tolist() if clusters.labels_N[code] == cluster]
        to = {other + 1: int(net) for other, net in enumerate(net_KK[cluster].tolist()) if net > 0}
        rows.append(
            {
                "cluster": cluster + 1,
                "codes": [code for code in members if use_N[code] > 0],
                "share": float(use_N[members].sum() / use_N.sum().clamp_min(1)),
                "net_to": dict(sorted(to.items(), key=lambda pair: -pair[1])),
            }
        )
    return rows


def flow_figure(clusters: FlowClusters, rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """Draw the clusters on a circle, as large as they are used, with an arrow for each net flow, as wide as it is."""
    figure = Figure(figsize=(6.2, 6.2), layout="constrained")
    axes = figure.add_subplot()
    count = len(rows)
    places = [(math.sin(2 * math.pi * k / count), math.cos(2 * math.pi * k / count)) for k in range(count)]
    net_KK = (clusters.flow_KK - clusters.flow_KK.T).clamp_min(0)
    share_KK = net_KK / (clusters.flow_KK + clusters.flow_KK.T).clamp_min(1)
    widest = float(net_KK.max().clamp_min(1))
    for source, target in net_KK.nonzero().tolist():
        style = {
            "arrowstyle": "-|>",
            "mutation_scale": 16,
            "linewidth": 0.5 + 6 * float(net_KK[source, target]) / widest,
            "color": "#2f5d8c",
            "alpha": 0.25 + 0.75 * float(share_KK[source, target]),
            "shrinkA": 34,
            "shrinkB": 34,
            "connectionstyle": "arc3,rad=0.08",
        }
        axes.annotate("", xy=places[target], xytext=places[source], arrowprops=style)
    for row, (x, y) in zip(rows, places, strict=True):
        axes.scatter([x], [y], s=900 + 4000 * row["share"], color="#f5f5f2", edgecolor="#1b1d21", zorder=3)
        text = f"{row['cluster']}\n{len(row['codes'])} codes\n{row['share']:.0%}"
        axes.text(x, y, text, ha="center", va="center", fontsize=8, zorder=4)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", title=title)
    axes.set_axis_off()
    caption = "arrows: net flow (width) and how one-sided it is (darkness); circles: share of the transitions"
    figure.text(0.5, 0.02, caption, ha="center", fontsize=8)
    return figure
