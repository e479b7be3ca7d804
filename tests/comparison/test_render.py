"""Tables of a comparison's results."""

from __future__ import annotations

import pytest

from ccc_w2v.comparison.render import _comparison_table, render_results
from ccc_w2v.comparison.results import _adjusted
from ccc_w2v.errors import InputError
from ccc_w2v.score.seeds import seeds_interval


@pytest.mark.parametrize(
    ("cer", "wer", "matched", "holds"),
    [
        (0.01, 0.01, 0.01, "CER and WER"),
        (0.01, 0.90, 0.90, "CER"),
        (0.90, 0.01, 0.01, "WER"),
        (0.90, 0.01, 0.90, "neither"),
    ],
)
def test_the_table_says_of_cer_and_wer_apart_whether_they_differ(cer, wer, matched, holds):
    difference = {"value": -0.06, "interval": [-0.07, -0.05]}
    row = {"a": "x", "b": "y", "labels": "10m", "decoder": "greedy", "condition": "clean", "seeds": [1, 2]}
    row |= {"cer": {**difference, "p": cer}, "wer": {**difference, "p": wer}, "mapsswe": {"p": matched}}
    table = _comparison_table({"arms": {"x": "X", "y": "Y"}, "comparisons": _adjusted([row])})
    assert table[-1].split(" | ")[-1].strip(" |") == holds
    assert table[-1].split(" | ")[4:6] == ["-6.0 (-7.0 to -5.0)", f"{cer:.4f}"]


def test_with_several_seeds_the_table_says_what_each_shows_and_what_they_show_together():
    row = {"labels": "10m", "decoder": "greedy", "condition": "clean", "b": "y"}
    tests = {test: {"value": -0.05, "interval": [-0.06, -0.04], "p": 0.01} for test in ("cer", "wer", "mapsswe")}
    several = {"cer": [-0.048, -0.055, -0.05], "wer": [-0.01, 0.05, 0.0]}
    rows = _adjusted([{**row, **tests, "a": "x", "seeds": [1, 2, 3]}, {**row, **tests, "a": "z", "seeds": [2]}])
    intervals = {measure: seeds_interval(values) for measure, values in several.items()}
    rows[0] |= {"seed_differences": several, "seed_interval": intervals}
    rows[1] |= {"seed_differences": {"cer": [-0.05], "wer": [0.01]}, "seed_interval": {"cer": None, "wer": None}}
    head, _, first, second = _comparison_table({"arms": {"x": "X", "y": "Y", "z": "Z"}, "comparisons": rows})
    assert head.endswith("| CER by seed | WER by seed | holds over seeds |")
    assert first.endswith("| CER and WER | -4.8, -5.5, -5.0 (-6.0 to -4.2) | -1.0, +5.0, +0.0 (-6.7 to +9.3) | CER |")
    assert second.endswith("| -5.0 | +1.0 | one seed |")


@pytest.mark.parametrize("content", ["{", '{"rows": []}', "[]"])
def test_what_are_no_results_is_said(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"results.json: (no results|holds no row)"):
        render_results(tmp_path / "results.json", tmp_path / "RESULTS.md")
    assert not (tmp_path / "RESULTS.md").exists()
