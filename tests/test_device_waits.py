"""A step on a pretended CUDA device: forward, criterion and backward neither wait for it nor add in a random order."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from fairseq.optim.adam import Adam
from fairseq.tasks.fairseq_task import StatefulContainer
from fairseq.utils import clip_grad_norm_
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from ccc_w2v.capi import CapiCriterion, CapiCriterionConfig
from ccc_w2v.criterion import CccCriterion
from ccc_w2v.losses.batch_signals import SLOW_EVERY
from ccc_w2v.losses.negative_sampling import empty_policy
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.training.teacher import teacher_frames
from tests.pretended_cuda import CUDA, backward, pretended_cuda
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, TINY, tiny_ccc


def on_device(batch):
    """Move a batch as fairseq does: its tensors, not its numbers."""
    moved = {name: value.to(CUDA) if torch.is_tensor(value) else value for name, value in batch["net_input"].items()}
    return {**batch, "net_input": moved}


def task():
    settings = {"seed": 1, "max_update": 100, "store_ema": True, "ema_fp32": True, "fp16": False, "bf16": False}
    state = StatefulContainer()
    state.add_factory("negative_policy", lambda: empty_policy(10) | {"action": 3})
    return SimpleNamespace(
        cfg=SimpleNamespace(**settings, annotations="train.align.tsv"),
        state=state,
        encoder_width=TINY["encoder_embed_dim"],
        encoder_layers=TINY["encoder_layers"],
        target_width=TINY["final_dim"],
    )


def node_by_node(loss, inputs):
    """Do as torch.autograd.grad, whose engine asks the driver for the device's streams."""
    gradients = backward(loss)
    return [gradients[id(tensor)] for tensor in inputs]


def taught_step(monkeypatch, batch, build, **model_settings):
    """Run a step of a criterion with parts that it trains by itself, and the steps of these."""
    model, teacher = tiny_ccc(**model_settings).train(), tiny_ccc(seed=7)
    model.set_num_updates(7)
    with pretended_cuda(monkeypatch):
        monkeypatch.setattr(torch.autograd, "grad", node_by_node)
        model.to(CUDA)
        teacher.to(CUDA)
        criterion = build(task()).to(CUDA)
        batch = on_device(batch) | {"classes": torch.zeros(3, 49, dtype=torch.long).to(CUDA)}
        batch |= teacher_frames(teacher, batch["net_input"], 0)
        loss, _, logged = criterion(model, batch)
        assert loss.device == CUDA
        gradients = backward(loss)
        assert gradients[id(model.post_extract_proj.weight)].shape == model.post_extract_proj.weight.shape
        if getattr(criterion, "prediction", None) is not None:
            criterion.prediction.step(7)
        if getattr(criterion, "membership", None) is not None:
            criterion.membership.step()
    return logged


def step(monkeypatch, batch, criterion_settings, update=7, **model_settings):
    model = tiny_ccc(**model_settings).train()
    model.set_num_updates(update)
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
    ("what", "call"),
    [
        ("cumsum", lambda x: x.cumsum(0)),
        ("multinomial", lambda x: torch.multinomial(x, 2, replacement=True)),
        ("histc", lambda x: x.histc()),
        ("bincount", lambda x: x.long().bincount(x, minlength=4)),
        ("median", lambda x: x.median(0)),
        ("kthvalue", lambda x: x.kthvalue(1)),
        ("put_", lambda x: x.put_(x.long(), x, accumulate=True)),
        ("scatter_reduce", lambda x: x.scatter_reduce(0, x.long(), x, "prod")),
        (
            "reflection_pad1d_backward",
            lambda x: backward(F.pad(x.view(1, -1).requires_grad_(), (1, 1), "reflect").sum()),
        ),
    ],
)
def test_the_pretended_device_refuses_what_adds_in_a_random_order(monkeypatch, what, call):
    with pretended_cuda(monkeypatch):
        values = torch.ones(4, device=CUDA)
        with pytest.raises(RuntimeError, match=f"aten::{what} has no deterministic form"):
            call(values)


def test_the_pretended_device_takes_what_has_a_deterministic_form(monkeypatch):
    with pretended_cuda(monkeypatch):
        values, places = torch.ones(4, device=CUDA), torch.zeros(4, dtype=torch.long).to(CUDA)
        for taken in (
            places.cumsum(0),
            values.median(),
            values.index_put_((places,), values, accumulate=True),
            values.scatter_add(0, places, values),
            values.scatter_reduce(0, places, values, "amax"),
        ):
            assert taken.device == CUDA


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


def test_an_update_with_slow_signals_has_deterministic_forms(monkeypatch):
    assert "signal_target_effective_rank" in step(monkeypatch, sample(), {}, update=SLOW_EVERY)


def test_a_validation_has_deterministic_forms(monkeypatch):
    model = tiny_ccc().eval()
    with pretended_cuda(monkeypatch), torch.no_grad():
        loss, _, logged = CccCriterion(CccCriterionConfig(), task=None).eval()(model.to(CUDA), on_device(sample()))
        assert loss.device == CUDA
    assert "signal_target_effective_rank" in logged


def test_fairseqs_optimiser_has_deterministic_forms(monkeypatch):
    with pretended_cuda(monkeypatch):
        weight = torch.nn.Parameter(torch.ones(3, 2, device=CUDA))
        weight.grad = torch.ones(3, 2, device=CUDA)
        assert clip_grad_norm_([weight], 1.0).device == CUDA
        Adam([weight], weight_decay=0.01).step()


FAMILY = {
    "capi": lambda owner: CapiCriterion(CapiCriterionConfig(prototypes=12), owner),
    "capi, one view": lambda owner: CapiCriterion(CapiCriterionConfig(prototypes=12, contexts="original"), owner),
    "delta": lambda owner: CccCriterion(CccCriterionConfig(prototypes=12, delta=1.0), owner),
    "distance": lambda owner: CccCriterion(CccCriterionConfig(negatives="distance"), owner),
    "learned": lambda owner: CccCriterion(CccCriterionConfig(negatives="learned"), owner),
    "annotated": lambda owner: CccCriterion(CccCriterionConfig(cluster_scope="annotated", annotated_start=0), owner),
}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", FAMILY)
def test_a_step_of_the_family_does_not_wait(monkeypatch, name, padded):
    batch = sample()
    if padded:
        lengths = (16000, 12000, 9000)
        padding_mask = torch.arange(16000) >= torch.tensor(lengths)[:, None]
        batch["net_input"] |= {"lengths": lengths, "padding_mask": padding_mask}
    taught_step(monkeypatch, batch, FAMILY[name])


def test_an_ignored_batch_of_the_family_does_not_wait(monkeypatch):
    for build in FAMILY.values():
        with monkeypatch.context() as patched:
            taught_step(patched, sample() | {"ignored": True}, build)
