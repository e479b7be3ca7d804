"""Activation checkpointing, torch.compile, the attention kernel: faster or smaller, and the same numbers."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.profiler import ProfilerActivity, profile

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.losses.test_cluster_scopes import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc

LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}


def loss_and_gradients(**settings):
    model = tiny_ccc(**{**NO_DROPOUT, **settings}).train()
    loss, _, _ = CccCriterion(CccCriterionConfig(), None)(model, sample())
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(actual, expected):
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=0)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(actual[1][name], gradient, rtol=1e-4, atol=1e-3, msg=name)


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


# What the pre-training recipes are made of: LibriSpeech's and Switchboard's share one file.
RECIPES = ["own/config/pretraining/base", "own/config/pretraining/tiny", "prompts/config/pretrain"]
RECIPES += ["shared/pretraining/shared", "small/config/pretrain"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_recipe_pads_its_frames(recipe):
    file = Path(__file__).parents[1] / "recipes" / f"{recipe}.yaml"
    assert yaml.safe_load(file.read_text())["model"]["required_seq_len_multiple"] == 1


@pytest.mark.parametrize(("multiple", "masked"), [(1, False), (2, True)])
def test_full_crops_need_no_mask_unless_frames_are_padded(monkeypatch, multiple, masked):
    """A mask rules out the flash kernel, as torch says of the same shapes on a GPU (tests/cuda/test_step.py)."""
    seen, attend = [], torch.nn.functional.scaled_dot_product_attention

    def watch(query, key, value, attn_mask=None, *args, **kwargs):
        seen.append((query.size(-2), attn_mask is not None))
        return attend(query, key, value, attn_mask, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    model = tiny_ccc(encoder_layers=1, required_seq_len_multiple=multiple).train()
    for samples, frames in ((250_000, 781), (320_000, 999)):
        waves = torch.randn(1, samples, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            model(waves, source_aug=waves, seed=1)
        assert seen.pop() == (frames + frames % multiple, masked)
