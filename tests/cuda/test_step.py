"""A step on a GPU: the CPU's numbers in fp32, gradients in a fixed order, the attention kernel that may run.

`ccc-w2v gpu-report` runs those on "cuda" and writes down what came out; on "cpu" the tests themselves are tried.
"""

import pytest
import torch

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.losses.negatives import of_negatives, sample_negatives
from ccc_w2v.settings.criterion import CccCriterionConfig
from tests.test_criterion import sample
from tests.tiny_models import NO_DROPOUT, tiny_ccc


@pytest.fixture
def exact_products():
    """Multiply in float32, not in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def with_draws(model, batch):
    """Put into a batch what the CPU draws: a GPU's generator draws other numbers from the same seed."""
    views, criterion = batch["net_input"], CccCriterion(CccCriterionConfig(), None)
    frames = int(model.draw_mask(views["source"], views.get("padding_mask"), 1, views.get("lengths"))[0].sum())
    shape = (len(views["source"]), frames, model.quantizer.groups, model.quantizer.num_vars)
    for name in ("", "_aug"):
        generator = generator_for(1, "gumbel" + name)
        views["gumbel" + name] = -torch.empty(shape).exponential_(generator=generator).log()
        generator = generator_for(1, "negatives" + name)
        batch["negatives" + name] = sample_negatives(len(views["source"]), frames, model.n_negatives, generator)
    points = 2 * len(views["source"]) * frames
    batch["kmeans_starts"] = torch.randperm(points, generator=generator_for(1, "starts"))[: 2 * 6].view(1, 2, 6)
    assert criterion.cfg.kmeans_restarts > 1
    return batch


def moved(values, device):
    if isinstance(values, dict):
        return {name: moved(value, device) for name, value in values.items()}
    return values.to(device) if torch.is_tensor(values) else values


def loss_and_gradients(model, batch, contexts):
    loss = CccCriterion(CccCriterionConfig(contexts=contexts), None)(model, batch)[0]
    model.zero_grad()
    loss.backward()
    return loss.detach().cpu(), {name: parameter.grad.cpu() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("contexts", ["both", "original", "augmented"])
@pytest.mark.parametrize("padded", [False, True])
def test_losses_and_gradients_are_the_cpus(exact_products, device, contexts, padded):
    # Built twice from one seed: torch does not copy a module whose weights weight_norm computes.
    model, moved_model = (tiny_ccc(**NO_DROPOUT).train() for _ in range(2))
    batch = sample()
    if padded:
        lengths = (16000, 12000, 14000)
        padding = torch.arange(16000) >= torch.tensor(lengths)[:, None]
        batch["net_input"] |= {"lengths": lengths, "padding_mask": padding}
    batch = with_draws(model, batch)
    expected = loss_and_gradients(model, batch, contexts)
    actual = loss_and_gradients(moved_model.to(device), moved(batch, device), contexts)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=0)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(actual[1][name], gradient, rtol=1e-3, atol=2e-3, msg=name)


def test_the_gradient_of_the_negatives_is_the_same_each_time(device):
    generator = torch.Generator().manual_seed(1)
    drawn = sample_negatives(6, 300, 100, generator).to(device)
    columns = torch.randn(6, 300, 300, generator=generator).to(device).requires_grad_()
    upstream = torch.randn(6, 300, 100, generator=generator).to(device)
    first, *others = (torch.autograd.grad(of_negatives(columns, drawn), columns, upstream)[0] for _ in range(10))
    assert all(torch.equal(first, other) for other in others)
    expected = torch.zeros_like(columns, device="cpu").scatter_add_(2, drawn.cpu(), upstream.cpu())
    torch.testing.assert_close(first.cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize(("multiple", "flash"), [(1, True), (2, False)])
def test_flash_attention_may_run_on_full_crops(monkeypatch, multiple, flash):
    """250,000 samples are 781 frames: padded to 782 they need a mask, which the kernel does not take."""
    asked, attend = [], torch.nn.functional.scaled_dot_product_attention

    def ask(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **kwargs):
        parameters = torch.backends.cuda.SDPAParams(query, key, value, attn_mask, dropout_p, is_causal, False)
        asked.append(torch.backends.cuda.can_use_flash_attention(parameters, debug=True))
        return attend(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", ask)
    model = tiny_ccc(encoder_embed_dim=64, required_seq_len_multiple=multiple).to("cuda", torch.float16).train()
    waves = torch.randn(1, 250_000, device="cuda", dtype=torch.float16)
    model(waves, source_aug=waves, seed=1)
    assert set(asked) == {flash}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_a_finite_loss_near_float32s(device, dtype):
    model = tiny_ccc(**NO_DROPOUT).train()
    batch = moved(with_draws(model, sample()), device)
    model = model.to(device)
    expected = loss_and_gradients(model, batch, "both")[0]
    for name in ("source", "source_aug"):
        batch["net_input"][name] = batch["net_input"][name].to(dtype)
    actual = loss_and_gradients(model.to(dtype), batch, "both")[0]
    assert float(actual) == pytest.approx(float(expected), rel=0.05)
