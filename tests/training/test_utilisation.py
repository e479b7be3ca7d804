"""Model FLOPs against torch's own counter of the operations that really run."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.training.totals import Totals
from ccc_w2v.training.utilisation import forward_flops, matmul_flops_per_second, training_flops
from tests.tiny_models import NO_DROPOUT, tiny_ccc


def ccc(**settings):
    cfg = SimpleNamespace(seed=1, max_update=10, store_ema=True, ema_fp32=True, fp16=False, bf16=False)
    task = SimpleNamespace(cfg=cfg, encoder_width=48, encoder_layers=2)
    return CccCriterion(CccCriterionConfig(**settings), task)


@pytest.mark.parametrize("settings", [{}, {"encoder_layers": 3, "encoder_ffn_embed_dim": 64, "conv_pos_groups": 2}])
def test_forward_is_what_torch_counts(settings):
    model = tiny_ccc(**NO_DROPOUT, required_seq_len_multiple=1, **settings).train()
    wave_BS = torch.randn(1, 16000, generator=torch.Generator().manual_seed(1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(wave_BS, mask=False, features_only=True)
    flops = forward_flops(model, 16000)
    # The counter does not know a CPU's fused attention: two products of 49 x 48 and 48 x 49 in each layer.
    attention = 0 if "scaled_dot_product" in str(counter.get_flop_counts()["Global"]) else 2 * 2 * 49 * 49 * 48
    expected = counter.get_total_flops() + len(model.encoder.layers) * attention
    assert flops.feature_encoder + flops.transformer == expected


def test_backward_is_about_twice_forward():
    model = tiny_ccc(**NO_DROPOUT, required_seq_len_multiple=1, feature_grad_mult=1.0).train()
    wave_BS = torch.randn(2, 16000, generator=torch.Generator().manual_seed(1))
    with FlopCounterMode(display=False) as counter:
        model(wave_BS, mask=False, features_only=True)["x"].sum().backward()
    # The first convolution needs no gradient of the wave.
    assert counter.get_total_flops() == pytest.approx(training_flops(model, 2, 16000, 1, 1), rel=0.1)


def test_passes_and_a_frozen_feature_encoder():
    model = tiny_ccc(feature_grad_mult=0.0)
    once = forward_flops(model, 16000)
    assert training_flops(model, 3, 16000, 2, 1) == 3 * (2 * once.feature_encoder + 3 * once.transformer)


@pytest.mark.parametrize(
    ("criterion", "wave"),
    [
        (SimpleNamespace(), lambda once: 3 * once.feature_encoder + 3 * once.transformer),
        (ccc(), lambda once: 6 * once.feature_encoder + 6 * once.transformer),
        (ccc(gamma=0.0), lambda once: 6 * once.feature_encoder + 3 * once.transformer),
        (ccc(contexts="original"), lambda once: 6 * once.feature_encoder + 3 * once.transformer),
        (ccc(delta=1.0), lambda once: 7 * once.feature_encoder + 7 * once.transformer),
    ],
)
def test_a_batch_costs_what_its_criterion_computes(criterion, wave):
    model = tiny_ccc(feature_grad_mult=1.0).train()
    batch = {"net_input": {"source": torch.zeros(2, 16000)}}
    assert Totals(None).flops(batch, model, criterion) == 2 * wave(forward_flops(model, 16000))


def test_the_limit_is_positive_and_takes_no_random_number():
    before = torch.get_rng_state()
    assert matmul_flops_per_second(torch.float32, torch.device("cpu"), 64) > 0
    assert torch.equal(torch.get_rng_state(), before)
