"""Activation checkpointing, torch.compile, the attention kernel: faster or smaller, and the same numbers."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from ccc_w2v.criterion import CccCriterion, CccCriterionConfig
from tests.losses.test_cluster_scopes import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc

LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}


def loss_and_gradients(**settings):
    model = tiny_ccc(**{**NO_DROPOUT, **settings}).train()
    loss, _, _ = CccCriterion(CccCriterionConfig(), None)(model, sample())
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-3, msg=name)


@pytest.mark.parametrize("architecture", [{}, LARGE], ids=["base", "large"])
def test_checkpointed_activations_leave_loss_and_gradients_as_they_were(architecture):
    assert_same(loss_and_gradients(**architecture, checkpoint_activations=True), loss_and_gradients(**architecture))


def test_compiled_layers_leave_loss_and_gradients_as_they_were():
    assert_same(loss_and_gradients(encoder_layers=1, compile_layers=True), loss_and_gradients(encoder_layers=1))


def test_compiled_layers_keep_the_state_dict():
    assert list(tiny_ccc(compile_layers=True).state_dict()) == list(tiny_ccc().state_dict())


@pytest.mark.parametrize("padded", [False, True])
def test_attention_runs_through_scaled_dot_product_attention(padded):
    model, batch = tiny_ccc().train(), sample()["net_input"]
    padding = torch.zeros(batch["source"].shape, dtype=torch.bool)
    padding[1, 12000:] = padded
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        model(**batch, padding_mask=padding)
    calls = {event.key: event.count for event in profiled.key_averages()}
    assert calls["aten::scaled_dot_product_attention"] == len(model.encoder.layers)  # both views in one call
