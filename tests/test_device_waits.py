"""Nothing in a step waits for the device: forward, criterion and backward on a pretended CUDA device."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.pretended_cuda import CUDA, backward, pretended_cuda
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc


def on_device(batch):
    """Move a batch as fairseq does: its tensors, not its numbers."""
    moved = {name: value.to(CUDA) if torch.is_tensor(value) else value for name, value in batch["net_input"].items()}
    return {**batch, "net_input": moved}


def step(monkeypatch, batch, criterion_settings, **model_settings):
    model = tiny_ccc(**model_settings).train()
    model.set_num_updates(7)
    with pretended_cuda(monkeypatch):
        model.to(CUDA)
        criterion = CccCriterion(CccCriterionConfig(**criterion_settings), task=None)
        loss, _, logged = criterion(model, on_device(batch))
        assert loss.device == CUDA
        gradients = backward(loss)
        used = {name: gradients.get(id(parameter)) for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        dropped = model_settings.get("encoder_layerdrop") and ".layers." in name
        assert dropped or used[name].shape == parameter.shape, name
    return logged


@pytest.mark.parametrize(
    "catcher", [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: bool(x.any())]
)
def test_the_pretended_device_has_no_values(monkeypatch, catcher):
    with pretended_cuda(monkeypatch):
        values = torch.ones(1, device=CUDA)
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            catcher(values)


def test_the_pretended_device_gives_nothing_back(monkeypatch):
    with pretended_cuda(monkeypatch):
        values = torch.arange(3).to(CUDA)
        with pytest.raises(RuntimeError, match="waits for the device"):
            values.cpu()


def test_the_graph_walked_node_by_node_is_the_backward_pass():
    model = tiny_ccc(**NO_DROPOUT).train()
    loss = CccCriterion(CccCriterionConfig(contexts="original"), None)(model, sample())[0]
    gradients = backward(loss)
    loss = CccCriterion(CccCriterionConfig(contexts="original"), None)(model, sample())[0]
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[id(parameter)], parameter.grad, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    "criterion_settings",
    [
        {},
        {"contexts": "original"},
        {"contexts": "augmented"},
        {"cluster_scope": "utterance"},
        {"near_positives": "log_weight"},
        {"near_positives": "remove"},
        {"extra_losses_on": "both"},
        {"block_weight": 1.0},
        {"beta": 0.0, "gamma": 0.0, "scale_factor": 1.0},
    ],
)
def test_a_step_does_not_wait(monkeypatch, criterion_settings):
    step(monkeypatch, sample(), criterion_settings)


@pytest.mark.parametrize(
    "model_settings",
    [
        {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True},
        {"autocast": "bf16"},
        {"checkpoint_features": True},
        {"required_seq_len_multiple": 1},
        {"mask_channel_prob": 0.5, "mask_channel_length": 4},
        {"encoder_layerdrop": 0.5},
        {"feature_grad_mult": 0.1},
    ],
)
@pytest.mark.parametrize("contexts", ["both", "original"])
def test_a_step_of_other_models_does_not_wait(monkeypatch, model_settings, contexts):
    step(monkeypatch, sample(), {"contexts": contexts}, **model_settings)


def test_a_padded_step_does_not_wait(monkeypatch):
    batch = sample()
    lengths = (16000, 12000, 9000)
    batch["net_input"] |= {"lengths": lengths, "padding_mask": torch.arange(16000) >= torch.tensor(lengths)[:, None]}
    step(monkeypatch, batch, {})
