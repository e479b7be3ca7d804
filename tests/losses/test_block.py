"""The block contrast term, against the numbers of the authors' own code (tests/data/nbc_softmax.pt)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.errors import InputError
from ccc_w2v.losses.block import block_contrast
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc

FIXTURE = torch.load(Path(__file__).parents[1] / "data" / "nbc_softmax.pt", weights_only=True)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}


def criterion(**settings):
    return CccCriterion(CccCriterionConfig(**settings), SimpleNamespace(cfg=SimpleNamespace(seed=1)))


@pytest.mark.parametrize("case", FIXTURE["cases"], ids=lambda case: f"{case['name']}-{case['tau']}")
def test_value_and_gradient_are_the_originals(case):
    points = case["embeddings"].clone().requires_grad_()
    value = block_contrast(points[None], case["labels"][None], case["num_classes"], case["tau"])
    value.backward()
    tolerance = TOLERANCE[points.dtype]
    torch.testing.assert_close(value, case["block_contrastive"], rtol=tolerance, atol=1e-15)
    expected = case["grad_embeddings_block_contrastive"]
    torch.testing.assert_close(points.grad, expected, rtol=0, atol=tolerance * max(float(expected.abs().max()), 1e-15))


def test_a_mean_at_the_origin_is_similar_to_none_where_the_original_is_not_a_number():
    case = FIXTURE["zero_centre"]
    assert case["loss_is_nan"]
    points = case["embeddings"].clone().requires_grad_()
    value = block_contrast(points[None], case["labels"][None], case["num_classes"], case["tau"])
    value.backward()
    torch.testing.assert_close(value, torch.tensor(2.0, dtype=value.dtype).log() / case["num_classes"])
    assert torch.isfinite(points.grad).all()


def test_problems_are_averaged_and_unused_clusters_do_not_count():
    draw = torch.Generator().manual_seed(0)
    points, labels = torch.randn(2, 9, 5, generator=draw), torch.randint(3, (2, 9), generator=draw)
    both = block_contrast(points, labels, 7, 0.2)
    apart = [block_contrast(points[i : i + 1], labels[i : i + 1], 7, 0.2) for i in range(2)]
    torch.testing.assert_close(both, sum(apart) / 2)


@pytest.mark.parametrize("scope", ["batch", "utterance"])
def test_the_criterion_adds_it_over_the_targets_of_both_views_with_its_weight(scope):
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    settings = {"cluster_scope": scope, "scale_factor": 1.0}
    without, frames, logged = criterion(**settings)(model, batch)
    ours = criterion(block_weight=3.0, block_scale=0.5, **settings)
    loss, _, with_block = ours(model, batch)
    objective = ours.objective(model, output := model(**batch["net_input"]), batch)
    points = torch.stack([output.original.target_BMD, output.augmented.target_BMD], dim=1)
    labels = torch.stack([objective.original.labels_BM, objective.augmented.labels_BM], dim=1)
    values = []
    for points_PD, labels_P in (
        zip(points.flatten(1, 2), labels.flatten(1), strict=True)
        if scope == "utterance"
        else [(points.flatten(0, 2), labels.flatten())]
    ):
        means = F.normalize(torch.stack([points_PD[labels_P == c].mean(dim=0) for c in labels_P.unique()]), dim=-1)
        cosines = (means @ means.T).fill_diagonal_(0)
        values.append((0.5 * cosines).exp().sum(dim=-1).log().mean() / objective.clusters)
    expected = 3.0 * frames * sum(values) / len(values)
    torch.testing.assert_close(loss - without, expected, rtol=1e-3, atol=1e-4 * float(without.detach()))
    torch.testing.assert_close(with_block["loss_block"], expected.detach(), rtol=1e-5, atol=0)
    assert "loss_block" not in logged


def test_a_step_against_its_gradient_spreads_the_clusters():
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    ours = criterion(alpha=1e-9, beta=0.0, gamma=0.0, block_weight=1.0, diversity_weight=0.0, penalty_weight=0.0)
    before = ours(model, batch)[0]
    before.backward()
    assert float(model.project_q.weight.grad.abs().max()) > 0
    with torch.no_grad():
        model.project_q.weight -= 0.01 * model.project_q.weight.grad / model.project_q.weight.grad.norm()
    assert float(ours(model, batch)[2]["loss_block"]) < float(before)


@pytest.mark.parametrize("settings", [{"block_weight": -1.0}, {"block_scale": 0.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        criterion(**settings)
