import math

import pytest
import torch
from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion
from fairseq.logging import metrics

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.errors import InputError
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.tiny_models import NO_DROPOUT, tiny_ccc, tiny_fairseq


def sample(seed=1, utterances=3, samples=16000):
    draw = torch.Generator().manual_seed(seed)
    source = torch.randn(utterances, samples, generator=draw)
    other = source + 0.1 * torch.randn(source.shape, generator=draw)
    return {"id": torch.arange(utterances), "net_input": {"source": source, "source_aug": other, "seed": seed}}


def criterion(**settings):
    return CccCriterion(CccCriterionConfig(**settings), task=None)


def test_one_term_with_factor_one_is_fairseqs_loss_forward_and_backward(monkeypatch):
    """beta = gamma = 0, SF = 1 equals unmodified fairseq's wav2vec2 + wav2vec criterion on the same draws."""
    ours, theirs = tiny_ccc(**NO_DROPOUT).eval(), tiny_fairseq(**NO_DROPOUT).eval()
    batch = sample()
    output = ours(**batch["net_input"])
    loss, sample_size, logged = criterion(beta=0.0, gamma=0.0, scale_factor=1.0)(ours, batch)
    loss.backward()

    # fairseq draws its negatives inside its forward: give it ours, as the flat rows that it indexes with.
    negatives = criterion().objective(ours, output, batch).original.drawn_BMN
    utterances, frames, count = negatives.shape
    rows = (negatives + frames * torch.arange(utterances)[:, None, None]).view(utterances, -1)

    def given_negatives(y, num, padding_count=None):
        picked = y.reshape(-1, y.size(-1))[rows.view(-1)]
        return picked.view(utterances, num, count, -1).permute(2, 0, 1, 3), rows

    monkeypatch.setattr(theirs, "sample_negatives", given_negatives)
    reference = Wav2vecCriterion(None, infonce=True, loss_weights=[0.1, 10])
    plain = {"id": batch["id"], "net_input": {"source": batch["net_input"]["source"]}}
    plain["net_input"]["mask_indices"] = output.mask_BT
    expected, expected_size, expected_log = reference(theirs, plain)
    expected.backward()

    assert sample_size == expected_size
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    assert logged["correct_contrastive"] == expected_log["correct"]
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-4, atol=1e-3, msg=name)


def test_factor_one_is_the_same_in_every_mode_that_weighs():
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    losses = [
        criterion(scale_factor=1.0, near_positives=mode)(model, batch)[0] for mode in ("scale_similarity", "log_weight")
    ]
    assert torch.equal(losses[0], losses[1])


def test_weights_multiply_their_terms():
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    settings = {"diversity_weight": 0.0, "penalty_weight": 0.0}
    loss, _, logged = criterion(alpha=0.7, beta=0.2, gamma=0.4, **settings)(model, batch)
    expected = 0.7 * logged["loss_contrastive"] + 0.2 * logged["loss_cross"] + 0.4 * logged["loss_cross_aug"]
    torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize(
    ("name", "key"), [("penalty_weight", "feature_penalty"), ("diversity_weight", "prob_perplexity")]
)
def test_what_has_no_weight_may_be_infinite(name, key):
    # As fp16 makes it; 0 x inf would be NaN. A term of weight 0 is not computed at all.
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    loss, *_ = criterion(**{name: 0.0})(model, batch)
    loss.backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    actual, *_ = criterion(**{name: 0.0})(_Overflown(model, key), batch)
    assert torch.equal(actual, loss)
    actual.backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        # Without training's noise, the codes' projection learns from the diversity alone.
        assert (parameter.grad is None) is (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)


class _Overflown:
    """A model of which one output has overflown, in both views."""

    def __init__(self, model, key):
        self.model, self.key = model, key

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, **inputs):
        output = self.model(**inputs)
        views = {
            name: view._replace(**{self.key: getattr(view, self.key) * math.inf})
            for name, view in output.views().items()
        }
        return output._replace(**views)


def test_extra_losses_of_both_views_are_their_mean():
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    swapped = {"id": batch["id"], "net_input": dict(batch["net_input"])}
    swapped["net_input"]["source"], swapped["net_input"]["source_aug"] = (
        batch["net_input"]["source_aug"],
        batch["net_input"]["source"],
    )
    first, second = (criterion()(model, views)[2] for views in (batch, swapped))
    both = criterion(extra_losses_on="both")(model, batch)[2]
    for name in ("loss_diversity", "loss_penalty"):
        torch.testing.assert_close(both[name], (first[name] + second[name]) / 2)


def test_clustering_adds_nothing_to_the_gradient_graph():
    model, batch = tiny_ccc(**NO_DROPOUT).eval(), sample()
    objective = criterion().objective(model, model(**batch["net_input"]), batch)
    assert not objective.original.labels_BM.requires_grad
    assert not objective.original.near_BMN.requires_grad


@pytest.mark.parametrize("mode", ["scale_similarity", "log_weight", "remove"])
@pytest.mark.parametrize("training", [False, True])
def test_every_mode_trains_with_finite_gradients(mode, training):
    model = tiny_ccc().train(training)
    loss, _, _ = criterion(near_positives=mode)(model, sample())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_logged_values_do_not_depend_on_the_number_of_workers():
    """The original shows its terms up to 1.69 times too high, depending on how many workers logged."""
    model, task_criterion = tiny_ccc(**NO_DROPOUT).eval(), criterion()
    logs = [task_criterion(model, sample(seed))[2] for seed in (1, 2)]
    frames = sum(log["sample_size"] for log in logs)
    summed = {key: logs[0][key] + logs[1][key] for key in logs[0]}
    shown = []
    for outputs in (logs, [summed]):  # gathered one by one, or added up across workers first
        with metrics.aggregate(new_root=True) as meters:
            CccCriterion.reduce_metrics(outputs)
            shown.append(meters.get_smoothed_values())
    assert shown[0] == shown[1]
    expected = float(summed["loss_contrastive"]) / frames / math.log(2)
    assert shown[0]["loss_contrastive"] == pytest.approx(expected, abs=1e-3)
    assert 0 < shown[0]["near_positive_share"] < 1


@pytest.mark.parametrize(
    "settings", [{"alpha": -1.0}, {"scale_factor": 1.5}, {"cluster_factor": 0}, {"kmeans_iterations": 0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        criterion(**settings)
