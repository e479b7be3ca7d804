"""Sensitivities, probabilities, weights: closed forms and another implementation (tests/data/sensitivity.pt)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from ccc_w2v.errors import InputError
from ccc_w2v.selection import ways
from ccc_w2v.selection.sensitivity import draw_weights, holder_constant, probabilities, sensitivities

FIXTURE = torch.load(Path(__file__).parents[1] / "data" / "sensitivity.pt", weights_only=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("case", FIXTURE["closed_form"], ids=lambda case: case["name"])
def test_probability_and_weight_are_those_of_the_closed_form(case):
    distance = torch.cdist(case["embeddings"], case["centres"])
    labels = distance.argmin(dim=1)
    nearest = distance.gather(1, labels[:, None])[:, 0]
    assert torch.equal(labels, case["assignment"])
    bound = sensitivities(case["centre_loss"], labels, nearest, case["lambda"], case["z"])
    torch.testing.assert_close(bound, case["sensitivity"], rtol=1e-12, atol=1e-15)
    probability = probabilities(bound)
    torch.testing.assert_close(probability, case["probability"], rtol=1e-12, atol=1e-15)
    # Each utterance's weight where it is drawn once among so many draws.
    for place in range(len(probability)):
        times = torch.zeros(len(probability), dtype=torch.long)
        times[place], times[place - 1] = 1, case["draws"] - 1
        weight = draw_weights(times, probability)
        torch.testing.assert_close(weight[place], case["weight"][place], rtol=1e-12, atol=0)
        assert float(weight[place - 2]) == 0


@pytest.mark.parametrize("case", FIXTURE["closed_form"], ids=lambda case: case["name"])
def test_a_weighted_sum_estimates_the_sum_over_all_without_bias_and_with_the_known_variance(case):
    """By enumeration of all draws, as the fixture's own numbers were made."""
    probability, draws = case["probability"], case["draws"]
    places = torch.cartesian_prod(*[torch.arange(len(probability))] * draws)
    chance = probability[places].prod(dim=1)
    times = torch.nn.functional.one_hot(places, len(probability)).sum(dim=1)
    weights = torch.stack([draw_weights(row, probability) for row in times])
    estimate = weights @ case["true_loss"]
    expected = (chance * estimate).sum()
    torch.testing.assert_close(expected, case["true_sum"], rtol=1e-11, atol=0)
    torch.testing.assert_close(expected, case["expected_estimate_by_enumeration"], rtol=1e-11, atol=0)
    variance = (chance * (estimate - expected) ** 2).sum()
    torch.testing.assert_close(variance, case["variance_by_enumeration"], rtol=1e-9, atol=1e-12)
    summed = (chance * weights.sum(dim=1)).sum()
    torch.testing.assert_close(summed, case["expected_weight_sum_by_enumeration"], rtol=1e-11, atol=0)


@pytest.mark.parametrize("case", FIXTURE["third_party"], ids=lambda case: f"z={case['z']}")
def test_numbers_of_an_independent_implementation(case):
    points, labels = case["reduced_embeddings"].double(), case["assignment"]
    # Its power 1 is the L1 norm, not the Euclidean distance.
    apart = points - points[case["in_data_centres"]][labels]
    distance = apart.norm(dim=1) if case["z"] == 2 else apart.abs().sum(dim=1)
    bound = sensitivities(case["centre_loss"], labels, distance, case["lambda_per_cluster"], case["z"])
    probability = probabilities(bound)
    torch.testing.assert_close(probability, case["probability"], rtol=5e-6, atol=1e-12)
    expected = case["weight"].double()
    torch.testing.assert_close(1 / (case["num_drawn"] * probability[case["drawn"]]), expected, rtol=5e-6, atol=0)


def test_the_constant_is_the_largest_slope_of_the_probed_losses():
    losses, centre = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2.0, 2.0, 2.0])
    assert holder_constant(losses, centre, torch.tensor([1.0, 2.0, 0.0]), power=1) == 1
    assert holder_constant(losses, centre, torch.tensor([4.0, 0.5, 0.0]), power=2) == 4
    assert holder_constant(losses, centre, torch.zeros(3), power=2) == 0
    assert probabilities(torch.zeros(4)).tolist() == [0.25] * 4


def test_draws_follow_the_probabilities():
    """Of each sample the utterance that is drawn first, since the budget holds no second."""
    probability = torch.tensor([0.05, 0.1, 0.15, 0.3, 0.4], dtype=torch.float64)
    samples, draw = torch.full((5,), 10), generator(3)
    counts = torch.zeros(5)
    for _ in range(4000):
        weights = ways.by_probability(probability, samples, 10, draw)
        (place,) = weights.nonzero().flatten().tolist()
        counts[place] += 1
        # Drawn once or more before another would have followed: all draws are of this one.
        torch.testing.assert_close(weights[place], 1 / probability[place])
    assert chisquare(counts.numpy(), (4000 * probability).numpy()).pvalue > 0.001
    assert chisquare(counts.numpy(), [800] * 5).pvalue < 1e-9


def test_weights_estimate_a_sum_over_all_utterances():
    """Not exactly: the draw ends by the audio. Over many samples the mean is within 3 % of the sum."""
    draw = generator(5)
    samples = torch.randint(5, 30, (200,), generator=draw)
    values = torch.rand(200, generator=draw, dtype=torch.float64)
    probability = probabilities(values + 0.3)
    estimates = torch.stack(
        [ways.by_probability(probability, samples, int(samples.sum()) // 4, draw) @ values for _ in range(400)]
    )
    assert abs(float(estimates.mean() / values.sum()) - 1) < 0.03


def test_a_budget_is_never_exceeded_and_nearly_filled():
    draw = generator(1)
    samples = torch.randint(20, 60, (300,), generator=draw)
    labels = torch.randint(7, (300,), generator=draw)
    budget = int(samples.sum()) // 3
    for weights in (
        ways.by_probability(torch.full((300,), 1 / 300, dtype=torch.float64), samples, budget, draw),
        ways.at_random(samples, budget, draw),
        ways.longest(samples, budget),
        ways.spread_over_clusters(labels, samples, budget, draw),
    ):
        taken = int(samples[weights > 0].sum())
        assert budget - 60 < taken <= budget


def test_the_longest_are_longer_than_the_rest():
    samples = torch.tensor([5, 9, 7, 9, 1])
    assert ways.longest(samples, 20).tolist() == [0, 1, 0, 1, 0]
    assert ways.longest(samples, 9).tolist() == [0, 1, 0, 0, 0]


def test_a_random_choice_takes_every_utterance_as_often():
    draw, samples = generator(2), torch.full((12,), 4)
    counts = torch.zeros(12)
    for _ in range(1500):
        weights = ways.at_random(samples, 16, draw)
        assert float(weights.sum()) == pytest.approx(12)
        counts += weights > 0
    assert chisquare(counts.numpy()).pvalue > 0.001


def test_clusters_of_any_size_give_as_much_audio():
    draw = generator(4)
    labels = torch.tensor([0] * 900 + [1] * 60 + [2] * 40)
    samples = torch.randint(8, 13, (1000,), generator=draw)
    weights = ways.spread_over_clusters(labels, samples, 900, draw)
    audio = torch.tensor([int(samples[(labels == k) & (weights > 0)].sum()) for k in range(3)])
    assert int(audio.max() - audio.min()) <= 13
    # Each cluster's weights stand for its utterances.
    assert [round(float(weights[labels == k].sum())) for k in range(3)] == [900, 60, 40]


def test_hours_that_hardly_probable_utterances_would_have_to_fill_are_refused():
    probability = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    with pytest.raises(InputError, match="do not fill --hours"):
        ways.by_probability(probability, torch.tensor([5, 5, 5]), 12, generator())
