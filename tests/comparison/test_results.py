"""What a comparison measures once its chains have ended."""

from __future__ import annotations

import pytest

from ccc_w2v.comparison.results import _adjusted, measure_comparison
from ccc_w2v.comparison.settings import choose_arms
from tests.comparison.chains import finish, settings


def test_a_comparison_has_the_difference_of_each_common_seed(recipe, tmp_path):
    comparison = settings(recipe, tmp_path / "out", arms=choose_arms(recipe, ["none", "wav2vec2"]), seeds=(1, 2, 3))
    for number, seed in ((0, 1), (0, 2), (0, 3), (1, 1), (1, 3)):
        finish(comparison, number, seed)
    results = measure_comparison(comparison)
    for pair in results["comparisons"]:
        rates = {
            (row["arm"], row["seed"]): row["cer"]
            for row in results["rows"]
            if all(row[key] == pair[key] for key in ("labels", "condition", "decoder"))
        }
        assert pair["seeds"] == [1, 3]
        expected = [rates["wav2vec2", seed] - rates["none", seed] for seed in (1, 3)]
        assert pair["seed_differences"]["cer"] == expected
        assert expected[0] != expected[1]
        assert sum(pair["seed_interval"]["cer"]) / 2 == pytest.approx(sum(expected) / 2)
        assert pair["cer"]["value"] == pytest.approx(sum(expected) / 2)


def test_p_values_are_adjusted_for_the_pairs_of_a_condition():
    rows = [
        {"cer": {"p": 0.01}, "wer": {"p": 0.02}, "mapsswe": {"p": 0.01}},
        {"cer": None, "wer": None, "mapsswe": {"p": None}},
    ]
    first, second = _adjusted(rows)
    assert (first["cer_p_adjusted"], first["wer_p_adjusted"]) == (0.02, 0.04)
    assert first["holds"]
    assert second["wer_p_adjusted"] == 1.0
    assert not second["holds"]
