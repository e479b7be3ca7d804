"""Signals of health against closed forms; that measuring them changes nothing of a training."""

import math

import pytest
import torch

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.losses.signals import (
    Signal,
    added,
    cluster_signals,
    code_signals,
    codebook_signals,
    effective_rank,
    explained_share,
    frame_energies,
    joined,
    lag,
    logit_signals,
    masked_values,
    mean_signal,
    rows_of,
    vector_signals,
)
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc


def value(signal):
    total, count = signal
    return float(total) / float(count)


def test_signals_are_joined_as_they_are():
    values = torch.arange(6.0).view(2, 3)
    signals = {
        "first": mean_signal(values),
        "asked": Signal(values.sum(), values.amax()),
        "one": mean_signal(values[1, 1]),
    }
    signals["both"] = added(signals["first"], signals["one"])
    expected = {"first": [15.0, 6.0], "asked": [15.0, 5.0], "one": [4.0, 1.0], "both": [19.0, 7.0]}
    made = joined(signals)
    assert {name: tensor.tolist() for name, tensor in made.items()} == expected
    assert list(made) == list(signals)
    assert joined({}) == {}


def test_variance_is_0_for_one_direction_and_1_for_opposite_ones():
    same = torch.tensor([[1.0, 2.0], [2.0, 4.0]]).view(1, 2, 2)
    opposite = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]).view(1, 2, 2)
    assert value(vector_signals("context", same, ranks=False)["context_variance"]) == pytest.approx(0, abs=1e-6)
    assert value(vector_signals("context", opposite, ranks=False)["context_variance"]) == pytest.approx(1)


@pytest.mark.parametrize("points", [64, 6])
def test_effective_rank_counts_equally_used_directions(points):
    # 3 orthogonal axes in both directions; more points than dimensions and fewer.
    axes = torch.eye(16)[:3]
    vectors = torch.cat([axes, -axes]).repeat(points // 6 + 1, 1)[: points // 6 * 6]
    assert float(effective_rank(vectors)) == pytest.approx(3, rel=1e-4)
    assert float(effective_rank(torch.ones(10, 4))) == pytest.approx(1)
    assert math.isfinite(float(effective_rank(torch.full((10, 4), math.inf))))


def test_perplexities_of_groups():
    usage = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    signals = codebook_signals("", usage, usage)
    assert value(signals["code_perplexity_group1"]) == pytest.approx(4)
    assert value(signals["prob_perplexity_group2"]) == pytest.approx(1)
    assert value(signals["code_perplexity_share"]) == pytest.approx(5 / 8)


def test_entropy_over_time_is_of_each_utterance():
    # Two utterances of one code each: the batch uses two codes, no utterance changes its code.
    codes = torch.tensor([[[0]] * 4, [[1]] * 4])
    assert value(code_signals(codes, 3)["code_entropy_over_time"]) == pytest.approx(0)
    codes = torch.tensor([[[0], [1], [0], [1]]])
    assert value(code_signals(codes, 3)["code_entropy_over_time"]) == pytest.approx(1)


def test_explained_share_is_epsilon_squared():
    codes = torch.tensor([0, 0, 0, 2, 2, 2])
    values = torch.tensor([1.0, 2.0, 3.0, 6.0, 7.0, 8.0])
    within, total = 4.0, 4.0 + 6 * 2.5**2
    expected = 1 - (within / (6 - 2)) / (total / (6 - 1))
    assert float(explained_share(codes, values, 4)) == pytest.approx(expected)
    draw = torch.Generator().manual_seed(1)
    unrelated = torch.randint(20, (2000,), generator=draw), torch.randn(2000, generator=draw)
    assert abs(float(explained_share(*unrelated, 20))) < 0.02


def test_cluster_sizes():
    labels = torch.tensor([[0, 0, 0, 1], [3, 3, 1, 1]])
    signals = cluster_signals(labels, 4)
    assert value(signals["largest_cluster_share"]) == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert value(signals["empty_cluster_share"]) == pytest.approx(0.5)


def logits_of(raw, weighed, near, near_weight=1.0):
    loss = (weighed.logsumexp(-1) - weighed[..., 0]).sum()
    return logit_signals("contrastive", raw, weighed, near, loss, temperature=0.1, near_weight=near_weight)


def test_a_guesser_is_at_chance_whatever_is_masked_out():
    draw = torch.Generator().manual_seed(2)
    raw = torch.zeros(2, 5, 9)
    near = torch.zeros(2, 5, 8, dtype=torch.bool)
    removed = torch.rand(2, 5, 8, generator=draw) < 0.4
    weighed = torch.cat([raw[..., :1], raw[..., 1:].masked_fill(removed, -math.inf)], dim=-1)
    signals = logits_of(raw, weighed, near)
    assert value(signals["below_chance_contrastive"]) == pytest.approx(0, abs=1e-5)
    assert value(signals["negatives_left_share"]) == pytest.approx(float((~removed).float().mean()))


def test_equal_vectors_are_at_chance_though_scaling_lowers_their_near_positives():
    draw = torch.Generator().manual_seed(3)
    near = torch.rand(2, 5, 8, generator=draw) < 0.4
    raw = torch.full((2, 5, 9), 10.0)  # cosine 1 at temperature 0.1
    weighed = torch.cat([raw[..., :1], torch.where(near, raw[..., 1:] * 0.3, raw[..., 1:])], dim=-1)
    signals = logits_of(raw, weighed, near, near_weight=math.exp((0.3 - 1) / 0.1))
    assert value(signals["below_chance_contrastive"]) == pytest.approx(0, abs=1e-4)
    assert value(signals["positive_cosine_contrastive"]) == pytest.approx(1)
    assert value(signals["negative_near_logit_share"]) == 0


@pytest.mark.parametrize("shift", [-4, 0, 3])
def test_lag_of_shifted_curves(shift):
    curves = torch.randn(3, 60, generator=torch.Generator().manual_seed(4))
    assert float(lag(curves, torch.roll(curves, shift, dims=1))) == abs(shift)


def test_energies_of_masked_frames_in_order():
    wave = torch.cat([torch.full((1, 10), level) for level in (1.0, 0.1, 0.0, 1.0)], dim=1)
    energy = frame_energies(wave, 4)
    assert energy.tolist()[0] == pytest.approx([0, -20, -100, 0], abs=1e-4)
    mask = torch.tensor([[False, True, True, False]])
    assert masked_values(energy, mask, 2).tolist()[0] == pytest.approx([-20, -100], abs=1e-4)


def test_rows_are_few_and_spread():
    rows = rows_of(torch.arange(3000.0).view(1, 3000, 1))
    assert len(rows) <= 256
    assert rows[0] == 0
    assert rows[-1] > 2980


@pytest.mark.parametrize("settings", [{}, {"cluster_scope": "utterance"}, {"beta": 0.0, "gamma": 0.0}])
@pytest.mark.parametrize("update", [1, 50])
def test_measuring_changes_neither_loss_nor_gradients_nor_draws(settings, update, monkeypatch):
    losses, gradients = [], []
    model = tiny_ccc(**NO_DROPOUT).train()
    model.set_num_updates(update)
    for measured in (True, False):
        criterion = CccCriterion(CccCriterionConfig(**settings), task=None)
        if not measured:
            monkeypatch.setattr(criterion, "_signals", lambda *_: {})
        model.zero_grad()
        before = torch.get_rng_state()
        loss, _, logged = criterion(model, sample())
        loss.backward()
        assert torch.equal(torch.get_rng_state(), before)
        losses.append(loss.detach())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        names = [name for name in logged if name.startswith("signal_")]
        assert bool(names) == measured
        # Measured now and then only.
        assert ("signal_view_shift_frames" in logged) == (measured and update % 50 == 0)
        assert all(logged[name].isfinite().all() for name in names)
    assert torch.equal(*losses)
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
