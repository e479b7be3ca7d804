"""Negatives by bins of similarity, and the policy that learns them, against closed forms (tests/data/reinforce.pt)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq.tasks.fairseq_task import StatefulContainer
from scipy.stats import chisquare

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.errors import InputError
from ccc_w2v.losses.negative_sampling import (
    NegativePolicy,
    draw_by_bins,
    draw_by_running_sum,
    empty_policy,
    next_baseline,
    reinforce,
    similarity_bins,
)
from ccc_w2v.losses.negatives import sample_negatives
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc

FIXTURE = torch.load(Path(__file__).parents[1] / "data" / "reinforce.pt", weights_only=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def criterion(**settings):
    task = SimpleNamespace(state=StatefulContainer(), cfg=SimpleNamespace(seed=1))
    return CccCriterion(CccCriterionConfig(**settings), task)


def test_bins_are_those_of_the_cosine():
    target = torch.tensor([[[1.0, 0.0], [3.0, 0.1], [0.0, 2.0], [-1.0, 0.0]]])
    bins = similarity_bins(target, 10)[0]
    assert bins[0].tolist() == [9, 9, 5, 0]
    assert torch.equal(bins, bins.T)


def test_a_draw_by_running_sums_follows_the_weights():
    """As a GPU draws, where multinomial has no fixed order; chi-square at one in a million."""
    weights = torch.tensor([[0.0, 3.0, 0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 1e-3, 0.0, 0.0, 0.0]])
    drawn = draw_by_running_sum(weights, 20000, generator())
    counts = torch.bincount(drawn[0], minlength=6).double()
    assert chisquare(counts[[1, 3, 4]].numpy(), (20000 * weights[0, [1, 3, 4]] / 6).double().numpy()).pvalue > 1e-6
    assert counts[[0, 2, 5]].sum() == 0
    assert set(drawn[1].tolist()) == {2}


def test_equal_weights_draw_as_uniform_sampling_does():
    """Chi-square at one in a million; the same test finds doubled weights."""
    bins = torch.randint(4, (1, 6, 6), generator=generator(1))
    off = ~torch.eye(6, dtype=torch.bool)

    def p_value(drawn):
        counts = torch.stack([torch.bincount(row, minlength=6) for row in drawn[0]])
        assert not counts[~off].any()
        return chisquare(counts[off].double().numpy()).pvalue

    assert p_value(draw_by_bins(bins, [0.7] * 4, 20000, generator())) > 1e-6
    assert p_value(sample_negatives(1, 6, 20000, generator())) > 1e-6
    assert p_value(draw_by_bins(bins, [0.7, 0.7, 1.4, 0.7], 20000, generator())) < 1e-6


def test_candidates_are_drawn_in_proportion_to_the_weights_of_their_bins():
    bins, weights = torch.randint(3, (2, 7, 7), generator=generator(1)), [0.0, 1.0, 3.0]
    drawn = draw_by_bins(bins, weights, 40000, generator())
    for utterance, frame in ((0, 0), (1, 3)):
        expected = torch.tensor(weights)[bins[utterance, frame]]
        expected[frame] = 0
        counts = torch.bincount(drawn[utterance, frame], minlength=7)
        assert not counts[expected == 0].any()
        used = expected > 0
        shares = expected[used].double() / expected.sum()
        assert chisquare(counts[used].double().numpy(), (shares / shares.sum() * 40000).numpy()).pvalue > 1e-6


def test_frames_without_candidates_of_weight_draw_uniformly_and_a_single_frame_itself():
    drawn = draw_by_bins(torch.zeros(1, 3, 3, dtype=torch.long), [0.0, 1.0], 100, generator())
    assert {tuple(sorted(set(row.tolist()))) for row in drawn[0]} == {(1, 2), (0, 2), (0, 1)}
    assert not draw_by_bins(torch.zeros(2, 1, 1, dtype=torch.long), [1.0, 1.0], 5, generator()).any()


@pytest.mark.parametrize("case", FIXTURE["closed_form"], ids=lambda case: case["name"])
def test_the_policys_update_is_the_closed_form(case):
    preferences = case["preferences"]
    loss, gradient = reinforce(preferences, case["actions"], case["rewards"], case["baseline"], case["temperature"])
    torch.testing.assert_close(loss, case["loss"], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gradient, case["grad_preferences"], rtol=1e-12, atol=1e-15)
    stepped = preferences - case["learning_rate"] * gradient
    torch.testing.assert_close(stepped, case["preferences_after_sgd_step"], rtol=1e-12, atol=1e-15)


def test_the_baseline_is_the_closed_form():
    case = FIXTURE["ema_baseline"]
    baseline = None
    for reward, expected in zip(case["rewards"].tolist(), case["baseline_used_at_step"].tolist(), strict=True):
        assert (baseline or 0.0) == pytest.approx(expected, rel=1e-12, abs=1e-15)
        baseline = next_baseline(baseline, reward, case["alpha"])


def test_a_policy_learns_the_bin_that_raises_the_accuracy():
    policy = NegativePolicy(empty_policy(4), boost=4.0, lr=0.5, seed=3)
    assert policy.weights() == [1.0] * 4
    accuracy = 0.5
    for _ in range(200):
        accuracy += 0.001 if policy.state["action"] == 2 else -0.001
        policy.observe(accuracy * 1000, 1000)
        policy.settle()
    preferences = policy.state["preferences"]
    assert preferences.index(max(preferences)) == 2
    assert torch.softmax(torch.tensor(preferences), dim=0)[2] > 0.8
    assert sorted(policy.weights()) == [1.0, 1.0, 1.0, 4.0]


def test_a_restored_policy_chooses_as_the_first_and_nothing_is_settled_twice():
    first = NegativePolicy(empty_policy(4), boost=4.0, lr=0.5, seed=3)
    for accuracy in (1, 3, 2):
        first.observe(accuracy, 10)
        first.settle()
    second = NegativePolicy({**first.state}, boost=4.0, lr=0.5, seed=3)
    before = dict(second.state)
    second.settle()
    assert second.state == before
    for policy in (first, second):
        policy.observe(4, 10)
        policy.settle()
    assert first.state == second.state


def test_training_draws_by_weights_and_validation_uniformly():
    model, batch = tiny_ccc(**NO_DROPOUT), sample()
    weights = [0.0] * 9 + [1.0]  # the most similar alone
    ours, plain = criterion(negatives="distance", negative_weights=weights), criterion()
    for training in (True, False):
        model.train(training)
        output = model(**batch["net_input"])
        drawn, uniform = (loss.objective(model, output, batch).original.drawn_BMN for loss in (ours, plain))
        assert torch.equal(drawn, uniform) is not training
        if training:
            bins = similarity_bins(output.original.target_BMD, 10)
            off = ~torch.eye(bins.size(1), dtype=torch.bool)
            near = ((bins == 9) & off).any(dim=-1)
            assert near.any()
            assert (bins.gather(2, drawn)[near] == 9).all()


def test_the_learned_policy_is_in_the_tasks_state_and_its_size_is_checked():
    ours = criterion(negatives="learned", negative_weights=[1.0, 1.0, 1.0])
    ours.negative_policy().observe(1, 2)
    assert ours.task.state.state_dict["negative_policy"]["frames"] == 2
    assert criterion().negative_policy() is None
    ours.task.state.merge_state_dict({"negative_policy": empty_policy(5)})
    with pytest.raises(SystemExit) as caught:
        ours.negative_policy()
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"negatives": "distance", "negative_weights": [1.0]},
        {"negatives": "distance", "negative_weights": [0.0, 0.0]},
        {"negatives": "learned", "negative_weights": [1.0, -1.0]},
        {"negative_boost": 0.0},
        {"negative_policy_lr": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=list(settings)[-1]):
        criterion(**settings)
