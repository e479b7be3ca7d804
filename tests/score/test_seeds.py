"""The interval over seeds against scipy's t-test and against its promise: coverage."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from ccc_w2v.score.seeds import seeds_interval


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("differences", [[-0.048, -0.055], [0.013, 0.002, -0.01], [0.3, 0.1, 0.2, 0.25, 0.11]])
def test_as_scipys_t_test(differences: list[float], level: float) -> None:
    theirs = stats.ttest_1samp(differences, 0).confidence_interval(level)
    assert seeds_interval(differences, level) == pytest.approx((theirs.low, theirs.high))


def test_it_holds_the_mean_of_all_seeds_as_often_as_it_says() -> None:
    trainings = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    intervals = [seeds_interval(row) for row in trainings.tolist()]
    assert sum(low < 5 < high for low, high in intervals) / len(intervals) == pytest.approx(0.95, abs=0.015)


def test_one_seed_says_nothing_and_equal_ones_leave_no_width() -> None:
    assert seeds_interval([]) is seeds_interval([0.1]) is None
    assert seeds_interval([0.1, 0.1]) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        seeds_interval([0.1, 0.2], level)
