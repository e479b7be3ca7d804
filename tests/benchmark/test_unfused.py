"""What the benchmark calls un-fused is the same objective: losses and gradients agree on the same draws."""

import pytest
import torch

from ccc_w2v.benchmark.unfused import TwoPassModel, UnfusedCriterion
from ccc_w2v.criterion import CccCriterion
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.settings.model import CccWav2Vec2Config
from tests.tiny_models import NO_DROPOUT, TINY, tiny_ccc


@pytest.mark.parametrize("training", [False, True])
def test_unfused_losses_and_gradients_are_ours(training):
    ours = tiny_ccc(**NO_DROPOUT, feature_grad_mult=1.0).train(training)
    two_pass = TwoPassModel(CccWav2Vec2Config(**{**TINY, **NO_DROPOUT, "feature_grad_mult": 1.0})).train(training)
    two_pass.load_state_dict(ours.state_dict())
    draw = torch.Generator().manual_seed(0)
    source = torch.randn(3, 16000, generator=draw)
    other = source + 0.3 * torch.randn(source.shape, generator=draw)
    batch = {"id": torch.arange(3), "net_input": {"source": source, "source_aug": other, "seed": 1}}
    batch["kmeans_starts"] = torch.randperm(60, generator=draw)[:2].view(1, 1, 2)
    cfg = CccCriterionConfig(kmeans_iterations=100)  # theirs iterates until it has converged
    pairs = ((CccCriterion, ours), (UnfusedCriterion, two_pass))
    results = [criterion(cfg, None)(model, batch) for criterion, model in pairs]
    for loss, _, _ in results:
        loss.backward()
    (loss, size, logged), (expected, expected_size, expected_log) = results
    assert size == expected_size
    assert logged["near_positives"] == expected_log["near_positives"] > 0
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    parameters = dict(two_pass.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, parameters[name].grad, rtol=1e-4, atol=1e-3, msg=name)
