import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.losses.contrastive import NEAR_POSITIVE_MODES, contrastive_term, cosine_logits, weigh_negatives
from ccc_w2v.losses.negatives import sample_negatives


def case(seed=0, utterances=2, frames=12, width=8, count=5, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    context = torch.randn(utterances, frames, width, generator=draw).to(dtype)
    target = torch.randn(utterances, frames, width, generator=draw).to(dtype)
    negatives = sample_negatives(utterances, frames, count, draw)
    near = torch.rand(negatives.shape, generator=draw) < 0.3
    equal = torch.rand(negatives.shape, generator=draw) < 0.1
    return context, target, negatives, near, equal


def test_logits_are_torchs_cosine_similarity_of_the_listed_vectors():
    context, target, negatives, _, _ = case()
    logits = cosine_logits(context, target, negatives, 0.1)
    rows = torch.arange(2)[:, None, None]
    listed = torch.cat([target.unsqueeze(2), target[rows, negatives]], dim=2)
    assert torch.allclose(logits, F.cosine_similarity(context.unsqueeze(2), listed, dim=-1) / 0.1, atol=1e-5)


def test_term_is_torchs_cross_entropy_with_the_positive_first():
    context, target, negatives, near, equal = case(1)
    logits = weigh_negatives(cosine_logits(context, target, negatives, 0.1), near, equal, "scale_similarity", 0.3)
    flat = logits.flatten(0, 1)
    expected = F.cross_entropy(flat, torch.zeros(len(flat), dtype=torch.long), reduction="sum")
    term = contrastive_term(logits)
    assert torch.allclose(term.loss, expected, rtol=1e-6)
    assert term.correct == (flat.argmax(-1) == 0).sum()


def test_scaling_happens_whether_or_not_a_negative_equals_its_positive():
    """The original scales only where some negative of the batch equals its positive."""
    context, target, negatives, near, _ = case(2)
    raw = cosine_logits(context, target, negatives, 0.1)
    weighed = weigh_negatives(raw, near, torch.zeros_like(near), "scale_similarity", 0.3)
    assert near.any()
    assert torch.equal(weighed[..., 1:], torch.where(near, raw[..., 1:] * 0.3, raw[..., 1:]))


def test_scaling_a_negative_valued_logit_raises_it():
    logits = torch.tensor([[[2.0, -1.0]]])
    near, equal = torch.tensor([[[True]]]), torch.tensor([[[False]]])
    assert weigh_negatives(logits, near, equal, "scale_similarity", 0.3)[0, 0, 1] == pytest.approx(-0.3)


def test_log_weight_multiplies_the_denominators_term_by_exactly_the_factor():
    logits = torch.tensor([[[0.5, 1.2, -0.7]]])
    near, equal = torch.tensor([[[True, False]]]), torch.zeros(1, 1, 2, dtype=torch.bool)
    loss = contrastive_term(weigh_negatives(logits, near, equal, "log_weight", 0.3)).loss
    expected = math.log(math.exp(0.5) + 0.3 * math.exp(1.2) + math.exp(-0.7)) - 0.5
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 10_000), st.sampled_from(["scale_similarity", "log_weight"]))
@settings(deadline=None, max_examples=30)
def test_factor_one_changes_nothing(seed, mode):
    context, target, negatives, near, equal = case(seed)
    raw = cosine_logits(context, target, negatives, 0.1)
    plain = weigh_negatives(raw, torch.zeros_like(near), equal, mode, 1.0)
    assert torch.equal(weigh_negatives(raw, near, equal, mode, 1.0), plain)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_log_weight_tends_to_removal(seed):
    context, target, negatives, near, equal = case(seed)
    raw = cosine_logits(context, target, negatives, 0.1)
    removed = contrastive_term(weigh_negatives(raw, near, equal, "remove", 0.3)).loss
    nearly = contrastive_term(weigh_negatives(raw, near, equal, "log_weight", 1e-12)).loss
    zero = contrastive_term(weigh_negatives(raw, near, equal, "log_weight", 0.0)).loss
    assert torch.allclose(nearly, removed, rtol=1e-4, atol=1e-4)
    assert torch.equal(zero, removed)


@pytest.mark.parametrize("mode", NEAR_POSITIVE_MODES)
@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("all_equal", [False, True])
def test_no_loss_or_gradient_is_ever_nan(mode, factor, dtype, all_equal):
    context, target, negatives, near, equal = case(3, dtype=dtype)
    context.requires_grad_()
    equal = torch.ones_like(equal) if all_equal else equal
    logits = weigh_negatives(cosine_logits(context, target, negatives, 0.1), near, equal, mode, factor)
    assert logits.dtype == torch.float32
    loss = contrastive_term(logits).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(context.grad).all()
    if all_equal:
        assert loss == 0.0


def test_permuting_utterances_permutes_the_logits():
    context, target, negatives, near, equal = case(4, utterances=4)
    order = torch.tensor([2, 0, 3, 1])

    def weighed(rows):
        raw = cosine_logits(context[rows], target[rows], negatives[rows], 0.1)
        return weigh_negatives(raw, near[rows], equal[rows], "scale_similarity", 0.3)

    assert torch.allclose(weighed(order), weighed(slice(None))[order], atol=1e-6)


def test_unknown_mode_lists_the_known_ones():
    context, target, negatives, near, equal = case()
    with pytest.raises(ValueError, match="available: scale_similarity, log_weight, remove"):
        weigh_negatives(cosine_logits(context, target, negatives, 0.1), near, equal, "soften", 0.3)
