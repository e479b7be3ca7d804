"""Our objective against numbers computed by the original implementation (tests/data/reference_objective.pt)."""

import json
from pathlib import Path

import pytest
import torch

from ccc_w2v.criterion import CccCriterion, CccCriterionConfig
from ccc_w2v.model import CccWav2Vec2Config, CccWav2Vec2Model

FIXTURE = torch.load(Path(__file__).parent / "data" / "reference_objective.pt", weights_only=True)
LOGITS = {"contrastive": "logits", "cross": "logits_x_ya", "cross_aug": "logits_xa_y"}


@pytest.fixture(params=["nopad_eval", "nopad_train"])
def case(request):
    settings = json.loads(FIXTURE["config_json"])
    objective = {name: settings.pop(name) for name in ("cluster_factor", "scale_factor")}
    settings["latent_temp"] = tuple(settings["latent_temp"])
    model = CccWav2Vec2Model(CccWav2Vec2Config(**settings))
    model.load_state_dict(FIXTURE["state_dict"], strict=True)
    model.train(request.param.endswith("train"))
    reference = FIXTURE["cases"][request.param]
    return model, CccCriterion(CccCriterionConfig(**objective), task=None), reference, sample_of(reference)


def sample_of(reference):
    utterances, frames, groups = reference["codes"].shape
    noise = {
        name: reference[name].view(utterances, frames, groups, -1)
        for name in ("gumbel", "gumbel_aug")
        if name in reference
    }
    return {
        "id": torch.arange(utterances),
        "net_input": {
            "source": reference["source"],
            "source_aug": reference["augmented"],
            "mask_indices": reference["mask_indices"],
            **noise,
        },
        # The fixture counts rows of the whole batch, we count frames of one utterance.
        "negatives": reference["neg_idxs"].view(utterances, frames, -1) % frames,
        "negatives_aug": reference["neg_aug_idxs"].view(utterances, frames, -1) % frames,
        "kmeans_starts": reference["kmeans_init_idx"].view(1, 1, -1),
    }


def test_codes_labels_near_positives_and_logits(case):
    model, criterion, reference, sample = case
    output = model(**sample["net_input"])
    assert torch.equal(output.original.codes_BMG, reference["codes"])
    assert torch.equal(output.augmented.codes_BMG, reference["codes_aug"])
    objective = criterion.objective(model, output, sample)
    labels = torch.cat([objective.original.labels_BM.flatten(), objective.augmented.labels_BM.flatten()])
    assert torch.equal(labels, reference["kmeans_labels"])
    assert objective.clusters == reference["kmeans_k"]
    assert torch.equal(objective.original.near_BMN.permute(2, 0, 1), reference["filter_negs"])
    assert torch.equal(objective.augmented.near_BMN.permute(2, 0, 1), reference["filter_negs_aug"])
    for name, key in LOGITS.items():
        torch.testing.assert_close(objective.terms[name].logits_BMC.permute(2, 0, 1), reference[key], atol=1e-5, rtol=0)


def test_losses_perplexities_and_total(case):
    model, criterion, reference, sample = case
    loss, sample_size, logged = criterion(model, sample)
    assert sample_size == reference["sample_size"]
    expected = {
        "loss_contrastive": reference["loss_contrastive"],
        "loss_cross": reference["loss_x_ya"],
        "loss_cross_aug": reference["loss_xa_y"],
        "loss_diversity": reference["loss_log"]["loss_1"],
        "loss_penalty": reference["loss_log"]["loss_2"],
        "code_perplexity": reference["code_perplexity"],
        "prob_perplexity": reference["prob_perplexity"],
    }
    for name, value in expected.items():
        torch.testing.assert_close(logged[name], value, rtol=1e-5, atol=0, msg=name)
    torch.testing.assert_close(loss, reference["loss_total"], rtol=1e-5, atol=0)
    assert logged["correct_contrastive"] == reference["loss_log"]["correct"]


def test_gradients(case):
    model, criterion, reference, sample = case
    criterion(model, sample)[0].backward()
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(reference["grad_norms"])
    for name, expected in reference["grads"].items():
        difference = (parameters[name].grad - expected).norm() / expected.norm()
        assert difference < 1e-4, name
    largest = max(reference["grad_norms"].values())
    for name, expected in reference["grad_norms"].items():
        # A key's bias shifts all attention logits alike: its gradient is zero but for rounding.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(parameters[name].grad.norm(), expected, rtol=1e-4, atol=1e-6 * largest, msg=name)


def test_more_iterations_leave_the_converged_labels(case):
    model, criterion, reference, sample = case
    criterion.cfg.kmeans_iterations = 60
    objective = criterion.objective(model, model(**sample["net_input"]), sample)
    labels = torch.cat([objective.original.labels_BM.flatten(), objective.augmented.labels_BM.flatten()])
    assert torch.equal(labels, reference["kmeans_labels"])
