"""What was counted beside what is published: manifests/switchboard_figures.tsv, every difference by name."""

from __future__ import annotations

from collections.abc import Mapping

from ccc_w2v.shared_files import shared_folder

# Hours are published rounded, and sclite counts words after its filter.
TOLERANCE = {"hours": 0.01, "words": 0.01}

Counts = Mapping[str, Mapping[str, float]]


def differences(counts: Counts) -> list[str]:
    """Return a line for each count of a list that is none of the published figures."""
    differing = []
    for name, what, published, source in _figures():
        counted = counts.get(name, {}).get(what)
        room = TOLERANCE.get(what, 0)
        if counted is not None and all(abs(counted - figure) > room * figure for figure in published):
            figures = " or ".join(f"{figure:,g}" for figure in published)
            differing.append(f"{name}: {counted:,g} {what}, published: {figures} ({source})")
    return differing


def table(counts: Counts) -> str:
    """Lay counts out, a line for each list."""
    columns = list(dict.fromkeys(what for row in counts.values() for what in row))
    lines = [f"{'list':<20}" + "".join(f"{what:>12}" for what in columns)]
    for name, row in counts.items():
        cells = (f"{row[what]:,.2f}" if what == "hours" else f"{row[what]:,}" for what in columns if what in row)
        shown = dict(zip((what for what in columns if what in row), cells, strict=True))
        lines.append(f"{name:<20}" + "".join(f"{shown.get(what, '-'):>12}" for what in columns))
    return "\n".join(lines)


def _figures() -> list[tuple[str, str, list[float], str]]:
    lines = (shared_folder("manifests") / "switchboard_figures.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [
        (name, what, [float(figure) for figure in published.split()], source) for name, what, published, source in rows
    ]
