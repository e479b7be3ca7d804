"""Bootstrap intervals against closed forms, scipy and their own promise: coverage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from ccc_w2v.errors import InputError
from ccc_w2v.score import bootstrap
from ccc_w2v.score.bootstrap import (
    bootstrap_interval,
    holm,
    paired_bootstrap,
    read_groups,
    wilson_interval,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(utterances: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw utterances of 1 to 30 words with about 10 % errors, at rates that differ between utterances."""
    generator = seeded(seed)
    words = torch.randint(1, 31, (utterances,), generator=generator)
    rates = 0.2 * torch.rand(utterances, generator=generator)
    return torch.binomial(words.double(), rates.double(), generator=generator).long().tolist(), words.tolist()


@pytest.mark.parametrize("at_once", [4_000_000, 50_000])
def test_bernoulli_utterances_have_the_normal_interval(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", at_once)
    count, wrong = 2000, 400
    errors = [1] * wrong + [0] * (count - wrong)
    low, high = bootstrap_interval(errors, [1] * count, generator=seeded())
    spread = math.sqrt(0.2 * 0.8 / count)
    assert low == pytest.approx(0.2 - 1.96 * spread, abs=0.1 * spread)
    assert high == pytest.approx(0.2 + 1.96 * spread, abs=0.1 * spread)


def test_narrower_at_a_lower_level() -> None:
    errors, words = draws(200, 3)
    low, high = bootstrap_interval(errors, words, generator=seeded(), level=0.95)
    inner_low, inner_high = bootstrap_interval(errors, words, generator=seeded(), level=0.5)
    assert low < inner_low < sum(errors) / sum(words) < inner_high < high


def test_as_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    numpy = pytest.importorskip("numpy")
    errors, words = draws(300, 1)
    theirs = stats.bootstrap(
        (numpy.array(errors), numpy.array(words)),
        lambda errors, words, axis: errors.sum(axis=axis) / words.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=10_000,
        rng=numpy.random.default_rng(0),
    )
    ours = bootstrap_interval(errors, words, generator=seeded())
    expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert ours == pytest.approx(expected, abs=0.1 * theirs.standard_error)


def test_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        low, high = bootstrap_interval(*draws(100, seed), generator=seeded(seed), resamples=1000)
        covered += low <= 0.1 <= high
    # 300 runs at 95 % stray by 1.3 points; percentile intervals of 100 utterances cover a little less than they say.
    assert 0.91 <= covered / 300 <= 0.99


def test_speakers_are_resampled_whole() -> None:
    errors, words = draws(40, 5)
    alone = bootstrap_interval(errors, words, generator=seeded())
    # Each speaker says the same three times: as many independent units as before, so the same interval.
    speakers = [f"s{index}" for index in range(40)] * 3
    assert bootstrap_interval(errors * 3, words * 3, speakers, generator=seeded()) == pytest.approx(alone)
    low, high = bootstrap_interval(errors * 3, words * 3, generator=seeded())
    assert high - low < 0.7 * (alone[1] - alone[0])


def test_equal_utterances_leave_no_spread() -> None:
    assert bootstrap_interval([1] * 9, [4] * 9, generator=seeded()) == (0.25, 0.25)
    assert bootstrap_interval([0] * 9, [4] * 9, generator=seeded()) == (0.0, 0.0)


def test_resamples_without_words_are_left_out() -> None:
    low, high = bootstrap_interval([0, 0, 1, 1], [0, 0, 2, 2], generator=seeded())
    assert (low, high) == (0.5, 0.5)


def test_too_little_to_resample() -> None:
    assert bootstrap_interval([1], [4], generator=seeded()) is None
    assert bootstrap_interval([1, 2], [4, 5], ["same", "same"], generator=seeded()) is None
    assert bootstrap_interval([1, 2], [0, 5], generator=seeded()) is None


def test_same_generator_same_interval_and_no_global_draw() -> None:
    errors, words = draws(50, 2)
    before = torch.random.get_rng_state()
    first = bootstrap_interval(errors, words, generator=seeded(7))
    assert first == bootstrap_interval(errors, words, generator=seeded(7))
    assert first != bootstrap_interval(errors, words, generator=seeded(8))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"level": 0.0}, {"resamples": 0}, {"groups": ["a"]}])
def test_senseless_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"expected 0 < level < 1|do not match"):
        bootstrap_interval([1, 1], [2, 2], generator=seeded(), **wrong)


def test_groups_in_the_utterances_order(tmp_path: Path) -> None:
    (tmp_path / "utt2spk").write_text("b s2\na s1\nunused s3\n")
    assert read_groups(tmp_path / "utt2spk", ["a", "b"]) == ["s1", "s2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a s1\nb\n", "utt2spk:2: expected utterance-id speaker, found 'b'"),
        ("a s1\na s2\n", "utt2spk:2: utterance 'a' has a line already"),
        ("a s1\n", "utt2spk: 1 utterances have no speaker: b"),
    ],
)
def test_groups_errors(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "utt2spk").write_text(content)
    with pytest.raises(InputError, match=message):
        read_groups(tmp_path / "utt2spk", ["a", "b"])
    with pytest.raises(InputError, match="no such speaker map"):
        read_groups(tmp_path / "none", ["a"])


def test_paired_difference_of_equal_systems_is_nothing() -> None:
    errors, words = draws(100, 1)
    interval = paired_bootstrap(errors, errors, words, generator=seeded())
    assert interval
    assert (interval.value, interval.p) == (0.0, 1.0)
    # Not of zero width: a difference that no word of so many shows may still be as common as Wilson's bound says.
    assert interval.interval == pytest.approx((-wilson_interval(0, sum(words))[1], wilson_interval(0, sum(words))[1]))


def test_pairing_narrows_what_two_intervals_leave_open() -> None:
    errors, words = draws(200, 1)
    # One error more in every third utterance: hard utterances stay hard for both.
    worse = [count + (index % 3 == 0) for index, count in enumerate(errors)]
    interval = paired_bootstrap(worse, errors, words, generator=seeded())
    assert interval.value == pytest.approx((sum(worse) - sum(errors)) / sum(words))
    assert 0 < interval.interval[0] < interval.value < interval.interval[1]
    assert interval.p == pytest.approx(2 / 10_001)
    turned = paired_bootstrap(errors, worse, words, generator=seeded())
    assert turned.interval == pytest.approx((-interval.interval[1], -interval.interval[0]))
    assert turned.p == interval.p


def test_p_is_the_normal_tests_for_many_utterances() -> None:
    # Differences of +1, -1 and 0 in utterances of one word each: the mean is near normal.
    a, b = [1] * 230 + [0] * 200 + [0] * 570, [0] * 230 + [1] * 200 + [0] * 570
    interval = paired_bootstrap(a, b, [1] * 1000, generator=seeded())
    spread = math.sqrt((0.43 - 0.03**2) / 1000)
    assert interval.p == pytest.approx(math.erfc(0.03 / spread / math.sqrt(2)), abs=0.02)
    assert interval.interval == pytest.approx((0.03 - 1.96 * spread, 0.03 + 1.96 * spread), abs=0.1 * spread)


def test_paired_speakers_are_resampled_whole() -> None:
    better, worse, words = [0, 0, 1, 0], [1, 1, 0, 1], [5] * 4
    speakers = [f"s{index}" for index in range(4)] * 25
    whole = paired_bootstrap(worse * 25, better * 25, words * 25, speakers, generator=seeded())
    single = paired_bootstrap(worse * 25, better * 25, words * 25, generator=seeded())
    # With four speakers, all four draws miss the odd one in 32 % of the resamples; two or more of it undo the gain.
    assert whole.p == pytest.approx(2 * (1 - 0.75**4 - 4 * 0.25 * 0.75**3), abs=0.03)
    assert single.p < 0.001
    assert paired_bootstrap([1], [2], [3], generator=seeded()) is None


def test_holm_against_its_definition() -> None:
    # Ranks 1 to 4 of p = 0.005, 0.01, 0.03, 0.04 are multiplied by 4, 3, 2, 1 and never fall.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("errors", "words", "expected"),
    [
        # R: prop.test(errors, words, correct=FALSE)
        (0, 100, (0.0, 0.036994)),
        (50, 100, (0.403830, 0.596170)),
        (100, 100, (0.963006, 1.0)),
        (1, 10, (0.017876, 0.404150)),
    ],
)
def test_wilsons_interval(errors: int, words: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(errors, words) == pytest.approx(expected, abs=2e-6)


def test_wilson_is_near_the_rule_of_three_and_holds_more_errors_than_words() -> None:
    assert wilson_interval(0, 10_000)[1] == pytest.approx(3 / 10_000, rel=0.3)
    low, high = wilson_interval(30, 20)
    assert low < 1.5 == high


def test_a_difference_that_never_shows_has_still_a_width() -> None:
    interval = paired_bootstrap([0] * 20, [0] * 20, [10] * 20, generator=seeded())
    assert interval
    assert interval.value == 0
    assert interval.interval == pytest.approx((-0.01885, 0.01885), abs=1e-4)
