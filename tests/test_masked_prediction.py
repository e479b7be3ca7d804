"""Criterion `capi` and the weight delta of `ccc`: the loss, its teacher, what is logged and refused."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq.dataclass.configs import EMAConfig
from fairseq.logging import metrics

from ccc_w2v.capi import CapiCriterion, CapiCriterionConfig
from ccc_w2v.criterion import CccCriterion
from ccc_w2v.errors import InputError
from ccc_w2v.losses.cluster_head import soft_cross_entropy
from ccc_w2v.losses.views import AUGMENTED, ORIGINAL
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.training.teacher import ScheduledEMA, teacher_frames
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, TINY, tiny_ccc

FIXTURE = torch.load(Path(__file__).parent / "data" / "capi.pt", weights_only=True)


def task(**settings):
    cfg = {"seed": 1, "max_update": 100, "store_ema": True, "ema_fp32": False, "fp16": False, "bf16": False}
    return SimpleNamespace(
        cfg=SimpleNamespace(**{**cfg, **settings}),
        encoder_width=TINY["encoder_embed_dim"],
        encoder_layers=TINY["encoder_layers"],
    )


def capi(owner=None, **settings):
    return CapiCriterion(CapiCriterionConfig(**{"prototypes": 12, **settings}), owner or task())


def taught(batch, layer=0):
    """Return a batch with the frames of a teacher of other weights."""
    return batch | teacher_frames(tiny_ccc(seed=7), batch["net_input"], layer)


def test_the_students_loss_is_the_cross_entropy_at_the_masked_frames_of_both_views():
    model, batch, ours = tiny_ccc(**NO_DROPOUT).eval(), taught(sample()), capi()
    loss, frames, logged = ours(model, batch)
    loss.backward()
    output = model(**batch["net_input"])
    points = batch["teacher"].flatten(0, 1)
    targets = ours.prediction.clustering.assign(points, learn=False).assigned.view(*output.mask_BT.shape, -1)
    expected = 0
    for view in (ORIGINAL, AUGMENTED):
        source = batch["net_input"]["source" if view == ORIGINAL else "source_aug"]
        x = model.extract_features(source, None, mask=False)["x"]
        masked = model.forward(source, None, mask_indices=output.mask_BT, features_only=True)["x"]
        assert not torch.allclose(x, masked)  # the student sees the mask
        scores = ours.prediction.student(masked[output.mask_BT]) / 0.12
        expected = expected + soft_cross_entropy(scores, targets[output.mask_BT]).sum() / 2
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    assert frames == int(output.mask_BT.sum())
    total, count = logged["signal_loss_prediction"].tolist()
    assert count == 2 * frames
    assert total / count == pytest.approx(float(loss.detach()) / frames / math.log(2), rel=1e-5)
    assert all(parameter.grad is not None for parameter in ours.parameters())
    # Nothing is quantised, so that nothing of it learns.
    assert model.quantizer.vars.grad is None
    assert model.project_q.weight.grad is None


@pytest.mark.parametrize(("contexts", "views"), [("original", ["source"]), ("augmented", ["source_aug"])])
def test_one_view_alone_is_computed_where_one_is_asked_for(contexts, views):
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), taught(sample())
    calls = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    loss, *_ = capi(contexts=contexts)(model, batch)
    assert calls == [3]
    alone = {**batch, "net_input": {**batch["net_input"], "source": batch["net_input"][views[0]]}}
    expected, *_ = capi(contexts="original")(model, alone)
    torch.testing.assert_close(loss, expected)


def test_alternate_draws_both_views_over_updates_and_validates_both():
    model, batch, ours = tiny_ccc(**NO_DROPOUT), taught(sample()), capi(contexts="alternate")
    drawn = set()
    for update in range(12):
        model.set_num_updates(update)
        drawn.add(ours._contexts(model))
    assert drawn == {(ORIGINAL,), (AUGMENTED,)}
    assert ours(model.eval(), batch)[1] * 2 == ours(model, batch)[2]["signal_loss_prediction"][1]


def test_delta_adds_the_same_loss_to_ccc_and_nothing_else():
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), taught(sample())
    plain = CccCriterion(CccCriterionConfig(), task())
    both = CccCriterion(CccCriterionConfig(delta=0.7, prototypes=12), task())
    assert not list(plain.parameters())
    without, with_it, alone = plain(model, batch)[0], both(model, batch)[0], capi()(model, batch)[0]
    torch.testing.assert_close(with_it - without, 0.7 * alone, rtol=1e-4, atol=0)
    without_log, with_log = plain(model, batch)[2], both(model, batch)[2]
    assert with_log.keys() - without_log.keys() == {
        f"signal_{name}"
        for name in ("loss_prediction", "accuracy_prediction", "loss_clustering", "target_entropy", "target_mass")
    } | {"signal_prototype_perplexity"}


def test_padding_is_no_point_and_has_no_target():
    model, ours = tiny_ccc(**NO_DROPOUT).eval(), capi()
    batch = sample()
    padding = torch.zeros(batch["net_input"]["source"].shape, dtype=torch.bool)
    padding[1, 9000:] = True
    batch["net_input"]["padding_mask"] = padding
    batch = taught(batch)
    _, _, logged = ours(model, batch)
    frames = batch["teacher_padding"].logical_not()
    assert int(logged["signal_loss_clustering"][1]) == int(frames.sum()) < frames.numel()
    targets, _ = ours.prediction._targets(batch, learn=False)
    assert not targets[~frames].any()
    torch.testing.assert_close(targets[frames].sum(dim=-1), torch.ones(int(frames.sum())), rtol=1e-4, atol=0)


def test_an_ignored_batch_teaches_nothing():
    model, ours = tiny_ccc(**NO_DROPOUT).train(), capi()
    loss, _, logged = ours(model, taught(sample()) | {"ignored": True})
    assert float(loss.detach()) == 0
    # Of the same names as any other batch's: fairseq adds the values of all processes one by one.
    assert logged.keys() == ours(model, taught(sample()))[2].keys()
    assert not logged["signal_loss_prediction"].any()
    assert not logged["signal_prototype_perplexity"].any()
    ours.prediction.clustering.forget()
    ours(model, taught(sample()) | {"ignored": True})
    assert not ours.prediction.clustering._summed[0].any()


def test_the_clustering_learns_in_training_alone_with_its_own_learning_rate():
    model, batch, ours = tiny_ccc(**NO_DROPOUT).train(), taught(sample()), capi(schedule_warmup=0.0, clustering_lr=0.1)
    weight = ours.prediction.clustering.weight_KE
    before = weight.detach().clone()
    ours(model.eval(), batch)
    ours.prediction.step(1)
    assert torch.equal(weight, before)
    first = ours(model.train(), batch)[2]["signal_loss_clustering"]
    ours.prediction.step(1)
    assert not torch.equal(weight, before)
    assert "clustering" not in "".join(dict(ours.named_parameters()))
    for _ in range(5):
        latest = ours(model, batch)[2]["signal_loss_clustering"]
        ours.prediction.step(1)
    assert latest[0] < first[0]


def test_the_teacher_sees_the_unmasked_original_without_dropout_and_a_layer_can_be_chosen():
    teacher, views = tiny_ccc(seed=7).train(), sample()["net_input"]
    frames = teacher_frames(teacher, views, 0)["teacher"]
    assert torch.equal(frames, teacher_frames(teacher, views | {"source_aug": None}, 0)["teacher"])
    assert not frames.requires_grad
    torch.testing.assert_close(frames, tiny_ccc(seed=7).eval()(views["source"], mask=False, features_only=True)["x"])
    second = teacher_frames(teacher, views, 2)["teacher"]
    # This small model normalises in each layer, so that the last one's output is the network's.
    torch.testing.assert_close(second, frames)
    assert not torch.allclose(teacher_frames(teacher, views, 1)["teacher"], frames)


class _Weights(torch.nn.Module):
    def __init__(self, tensors):
        super().__init__()
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(tensor.clone()) for tensor in tensors])


def test_the_teacher_follows_the_momentum_of_each_update_as_the_original():
    case = FIXTURE["ema"]
    student = _Weights(case["initial"])
    momentum = case["momentum"].tolist()
    teacher = ScheduledEMA(student, EMAConfig(store_ema=True), None, lambda update, _: momentum[update])
    for update, (weights, expected) in enumerate(zip(case["student"], case["ema"], strict=True)):
        with torch.no_grad():
            for parameter, tensor in zip(student.parameters(), weights, strict=True):
                parameter.copy_(tensor)
        teacher.step(student, update + 1)
        assert teacher.get_decay() == momentum[update]
        for parameter, tensor in zip(teacher.get_model().parameters(), expected, strict=True):
            torch.testing.assert_close(parameter, tensor, rtol=5e-6, atol=1e-6)


def test_a_model_with_computed_weights_has_a_teacher_of_its_own():
    model = tiny_ccc()
    teacher = ScheduledEMA(model, EMAConfig(store_ema=True), None, lambda update, decay: decay).get_model()
    assert teacher.state_dict().keys() == model.state_dict().keys()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    batch = sample()
    model.eval()(**batch["net_input"]).original.context_BMD.sum().backward()
    assert model.encoder.pos_conv[0].weight_g.grad.abs().sum() > 0


def test_momentum_and_learning_rate_follow_the_schedule_of_the_release():
    defaults, schedule = FIXTURE["defaults"], FIXTURE["schedules"]["default_momentum"]
    owner = task(max_update=defaults["total_iters"])
    prediction = capi(owner).prediction
    for update, value in zip(schedule["iteration"].tolist(), schedule["value"].tolist(), strict=True):
        assert prediction.momentum(update, defaults["momentum_base"]) == pytest.approx(value, rel=1e-12)
    rates = FIXTURE["schedules"]["default_clustering_lr"]
    stepped = []
    prediction.clustering.step = stepped.append
    for update in rates["iteration"].tolist():
        prediction.step(update)
    torch.testing.assert_close(torch.tensor(stepped, dtype=torch.float64), rates["value"], rtol=1e-12, atol=1e-15)
    assert capi(owner, momentum_schedule="constant").prediction.momentum(5, 0.97) == 0.97


def test_defaults_are_the_releases():
    cfg, defaults = CapiCriterionConfig(), FIXTURE["defaults"]
    assert cfg.student_temperature == defaults["student_temp"]
    assert cfg.target_temperature == defaults["target_temp"]
    assert cfg.clustering_temperature == defaults["pred_temp"]
    assert cfg.sinkhorn_iterations == defaults["n_sk_iter"]
    assert cfg.clustering_lr == defaults["clustering_lr"]
    assert cfg.schedule_truncate == defaults["truncate_cos"]
    assert cfg.schedule_warmup == defaults["warmup_iters"] / defaults["total_iters"]


def test_logged_values_do_not_depend_on_the_number_of_workers():
    model, ours = tiny_ccc(**NO_DROPOUT).eval(), capi()
    logs = [ours(model, taught(sample(seed)))[2] for seed in (1, 2)]
    summed = {key: logs[0][key] + logs[1][key] for key in logs[0]}
    shown = []
    for outputs in (logs, [summed]):
        with metrics.aggregate(new_root=True) as meters:
            CapiCriterion.reduce_metrics(outputs)
            shown.append(meters.get_smoothed_values())
    assert shown[0] == shown[1]
    assert shown[0]["loss"] == pytest.approx(shown[0]["loss_prediction"], abs=2e-3)
    assert 1 < shown[0]["prototype_perplexity"] <= 12


@pytest.mark.parametrize(
    ("settings", "owner", "message"),
    [
        ({"prototypes": 1}, {}, "criterion.prototypes=1"),
        ({"sinkhorn_iterations": 0}, {}, "criterion.sinkhorn_iterations=0"),
        ({"student_temperature": 0.0}, {}, "criterion.student_temperature=0.0"),
        ({"schedule_warmup": 1.5}, {}, "criterion.schedule_warmup=1.5"),
        ({"teacher_layer": 3}, {}, "the model has layers 1 to 2"),
        ({}, {"store_ema": False}, "set ema.store_ema=true"),
        ({}, {"fp16": True}, "set ema.ema_fp32=true"),
        ({}, {"max_update": 0}, "set optimization.max_update"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, owner, message):
    with pytest.raises(InputError, match=message):
        capi(task(**owner), **settings)
    with pytest.raises(InputError, match=message):
        CccCriterion(CccCriterionConfig(delta=1.0, **settings), task(**owner))
