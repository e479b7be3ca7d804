"""Which contexts an update computes: criterion.contexts, and terms of weight 0."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.errors import InputError
from ccc_w2v.losses.objective import TERMS
from ccc_w2v.losses.views import AUGMENTED, ORIGINAL, VIEWS
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.training.precision import precision_chosen, uses_bf16
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc


def criterion(**settings):
    task = SimpleNamespace(cfg=SimpleNamespace(seed=1))
    return CccCriterion(CccCriterionConfig(**settings), task)


def encoder_rows(model):
    """Collect how many waves each call of the Transformer and of the feature encoder gets."""
    rows = {"transformer": [], "features": []}
    model.encoder.register_forward_pre_hook(lambda _, inputs: rows["transformer"].append(len(inputs[0])))
    first = model.feature_extractor.conv_layers[0][0]
    first.register_forward_pre_hook(lambda _, inputs: rows["features"].append(len(inputs[0])))
    return rows


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(
    ("settings", "transformer", "features"),
    [
        ({}, [6], [6]),
        ({"gamma": 0.0}, [3], [3, 3]),
        ({"alpha": 0.0, "beta": 0.0}, [3], [3, 3]),
        ({"beta": 0.0, "gamma": 0.0, "scale_factor": 1.0}, [3], [3]),
        ({"beta": 0.0, "gamma": 0.0, "scale_factor": 1.0, "near_positives": "remove"}, [3], [3, 3]),
        ({"beta": 0.0, "gamma": 0.0, "scale_factor": 1.0, "extra_losses_on": "both"}, [3], [3, 3]),
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_what_no_term_needs_is_not_computed_and_changes_nothing(settings, transformer, features, padded):
    model, batch, ours = tiny_ccc(**NO_DROPOUT).train(), sample(), criterion(**settings)
    if padded:
        batch["net_input"]["padding_mask"] = torch.zeros(3, 16000, dtype=torch.bool)
        batch["net_input"]["padding_mask"][1, 12000:] = True
    # The same with both contexts and all targets computed, as they were before.
    output = model(**batch["net_input"])
    terms = ours.objective(model, output, batch).terms
    cfg = ours.cfg
    frames = output.original.target_BMD[..., 0].numel()
    shown = VIEWS if cfg.extra_losses_on == "both" else (ORIGINAL,)
    extra = sum(
        cfg.diversity_weight * (1 - view.prob_perplexity / output.codebook_size)
        + cfg.penalty_weight * view.feature_penalty
        for view in map(output.view, shown)
    )
    expected = sum(ours.weights[name] * terms[name].loss for name in TERMS) + frames * extra / len(shown)
    expected_gradients = gradients(model, expected)

    rows = encoder_rows(model)
    loss, _, logged = ours(model, batch)
    assert rows == {"transformer": transformer, "features": features}
    assert ours.encoded_views(model) == (sum(features) / 3, sum(transformer) / 3)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-3, msg=name)
    assert {name for name in TERMS if f"loss_{name}" in logged} == {n for n in TERMS if ours.weights[n] > 0}


def test_what_was_not_computed_is_none():
    model, waves = tiny_ccc(**NO_DROPOUT).train(), sample()["net_input"]
    output = model(**waves, contexts={AUGMENTED}, targets={ORIGINAL})
    assert output.original.context_BMD is None
    assert output.original.target_BMD.shape == output.augmented.context_BMD.shape
    alone = model(**waves, contexts={ORIGINAL}, targets={ORIGINAL})
    assert alone.augmented is None
    assert list(alone.views()) == [ORIGINAL]
    objective = criterion().objective(model, alone, sample(), {"contrastive": 1.0})
    assert objective.original.labels_BM is None
    assert (objective.augmented, objective.clusters, list(objective.terms)) == (None, 0, ["contrastive"])
    with pytest.raises(KeyError, match="the augmented view's targets were not computed"):
        objective.negatives(AUGMENTED)


@pytest.mark.parametrize("weights", [(1.0, 0.5, 0.5), (0.3, 0.0, 0.9)])
def test_alternating_contexts_have_the_expected_loss_of_both(weights):
    names = dict(zip(("alpha", "beta", "gamma"), weights, strict=True))
    model, batch = tiny_ccc(**NO_DROPOUT).train(), sample()
    both = criterion(**names)(model, batch)[0]
    ours = criterion(contexts="alternate", **names)
    losses = {ORIGINAL: [], AUGMENTED: []}
    rows = encoder_rows(model)
    for update in range(400):
        model.set_num_updates(update)
        drawn = {TERMS[name].context for name in ours.term_weights(model)}
        assert len(drawn) == 1
        view = drawn.pop()
        # One step of each kind: the same batch has the same loss at every update that draws the same view.
        losses[view].append(losses[view][0] if losses[view] else float(ours(model, batch)[0]))
    assert rows["transformer"] == [3, 3]
    share = (weights[0] + weights[1]) / sum(weights)
    # The exact expectation, and the frequency of the draws within four standard deviations.
    expectation = share * losses[ORIGINAL][0] + (1 - share) * losses[AUGMENTED][0]
    assert expectation == pytest.approx(float(both), rel=1e-5)
    assert abs(len(losses[ORIGINAL]) / 400 - share) < 4 * (share * (1 - share) / 400) ** 0.5


def test_the_draw_depends_on_seed_and_update_alone():
    """So a resumed run draws what the uninterrupted one does."""
    model, ours = tiny_ccc().train(), criterion(contexts="alternate")

    def drawn(updates):
        views = []
        for update in updates:
            model.set_num_updates(update)
            torch.manual_seed(update % 3)
            views.append(tuple(ours.term_weights(model)))
        return views

    first = drawn(range(30))
    assert first[20:] == drawn(range(20, 30))
    ours.task.cfg.seed = 2
    assert drawn(range(30)) != first


@pytest.mark.parametrize("contexts", ["original", "augmented", "alternate"])
def test_validation_computes_both(contexts):
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    expected, actual = (criterion(contexts=kind)(model, batch)[0] for kind in ("both", contexts))
    assert torch.equal(actual, expected)


def test_one_context_takes_its_own_terms():
    model, batch = tiny_ccc(**NO_DROPOUT).train(), sample()
    logs = {kind: criterion(contexts=kind)(model, batch)[2] for kind in ("both", "original", "augmented")}
    assert "loss_cross_aug" not in logs["original"]
    assert "loss_cross" not in logs["augmented"]
    for name, (view, _) in TERMS.items():
        torch.testing.assert_close(logs[view][f"loss_{name}"], logs["both"][f"loss_{name}"], rtol=1e-5, atol=0)


def test_terms_that_were_not_computed_are_not_logged_as_zero():
    model = tiny_ccc(**NO_DROPOUT).train()
    logs = [criterion(contexts=kind)(model, sample())[2] for kind in ("original", "augmented", "augmented")]
    shown = []
    for outputs in (logs[:1], logs[1:]):
        with metrics.aggregate(new_root=True) as meters:
            CccCriterion.reduce_metrics(outputs)
            shown.append(meters.get_smoothed_values())
    assert "loss_cross_aug" not in shown[0]
    assert "loss_contrastive" not in shown[1]
    expected = float(logs[1]["loss_cross_aug"]) / logs[1]["sample_size"] / torch.tensor(2.0).log()
    assert shown[1]["loss_cross_aug"] == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"contexts": "augmented", "gamma": 0.0}, "raise criterion.gamma"),
        ({"contexts": "alternate", "gamma": 0.0}, "raise criterion.gamma"),
        ({"contexts": "original", "alpha": 0.0, "beta": 0.0}, "alpha or beta"),
        ({"alpha": 0.0, "beta": 0.0, "gamma": 0.0}, "at least one"),
    ],
)
def test_contexts_without_a_weight_are_refused(settings, remedy):
    with pytest.raises(InputError, match=remedy):
        criterion(**settings)


def test_autocast_keeps_weights_and_losses_single_and_the_loss_near():
    batch = sample()
    losses = []
    for autocast in ("none", "bf16"):
        model = tiny_ccc(**NO_DROPOUT, autocast=autocast).train()
        output = model(**batch["net_input"])
        assert output.original.context_BMD.dtype == (torch.float32 if autocast == "none" else torch.bfloat16)
        loss = criterion(scale_factor=1.0)(model, batch)[0]
        assert loss.dtype == torch.float32
        assert all(gradient.dtype == torch.float32 for gradient in gradients(model, loss).values())
        losses.append(float(loss.detach()))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("supported", [False, True])
def test_auto_takes_bfloat16_on_cpus_that_multiply_it(monkeypatch, supported):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: supported)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert uses_bf16("auto", cpu) == supported
    assert uses_bf16("bf16", cpu)
    assert uses_bf16("bf16", cuda)
    assert not uses_bf16("none", cpu)
    assert not uses_bf16("auto", cuda)


def test_the_plan_says_which_precision_was_chosen_and_why(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert precision_chosen("none", cpu) == ""
    assert "products in bfloat16 (model.autocast=bf16)" in precision_chosen("bf16", cpu)
    without = precision_chosen("auto", cpu)
    assert "products in float32" in without
    assert "this processor has no instructions for bfloat16" in without
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    alone = "products in float32 (model.autocast=auto: this processor has AVX512-BF16 alone)"
    assert alone in precision_chosen("auto", cpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert "products in bfloat16 (model.autocast=auto: this processor has AMX)" in precision_chosen("auto", cpu)
    assert "products in float32 (model.autocast=auto: for CPUs alone" in precision_chosen("auto", cuda)
