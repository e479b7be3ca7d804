"""A pre-training's first 30 losses are those checked in: a change that should not touch the mathematics has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration import golden_curve

WRITE = "where the mathematics was meant to change: python -m tests.integration.golden_curve --write"


def difference(curve: list[float], golden: list[float], same_machine: bool) -> str:
    """Say at which update two curves part, or return an empty string: all bits on one machine, 1e-4 on another."""
    if len(curve) != len(golden):
        return f"{len(curve)} updates; expected {len(golden)}"
    for update, (loss, expected) in enumerate(zip(curve, golden, strict=True), 1):
        within = loss == expected if same_machine else abs(loss - expected) <= golden_curve.RELATIVE * abs(expected)
        if not within:
            return f"update {update}: loss {loss!r}; expected {expected!r}; {WRITE}"
    return ""


def test_thirty_losses_are_those_checked_in(tmp_path: Path) -> None:
    stored = json.loads(golden_curve.GOLDEN.read_text(encoding="ascii"))
    golden = [float.fromhex(loss) for loss in stored["losses"]]
    assert len(golden) == golden_curve.UPDATES
    here = golden_curve.made_by()
    assert set(stored["made_by"]) == set(here)
    assert difference(golden_curve.losses(tmp_path), golden, here == stored["made_by"]) == ""


@pytest.mark.parametrize(
    ("curve", "same_machine", "said"),
    [
        ([4.0, 2.0], True, ""),
        ([4.0, 2.0000000000000004], True, "update 2"),
        ([4.0, 2.0001], False, ""),
        ([4.0, 2.0003], False, "update 2"),
        ([4.0, float("nan")], False, "update 2"),
        ([4.0], False, "1 updates; expected 2"),
    ],
)
def test_what_counts_as_a_difference(curve: list[float], same_machine: bool, said: str) -> None:
    message = difference(curve, [4.0, 2.0], same_machine)
    assert said in message
    assert bool(message) == bool(said)
