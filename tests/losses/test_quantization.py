import math

import pytest
import torch
import torch.nn.functional as F
from fairseq.modules.gumbel_vector_quantizer import GumbelVectorQuantizer

from ccc_w2v.losses.quantization import gumbel_noise, gumbel_quantize

GROUPS, CODES, WIDTH = 2, 16, 32


def quantizer():
    torch.manual_seed(0)
    return GumbelVectorQuantizer(
        dim=24, num_vars=CODES, temp=(1.5, 0.5, 0.9), groups=GROUPS, combine_groups=False, vq_dim=WIDTH, time_first=True
    )


def ours(module, features, noise):
    logits = module.weight_proj(features).unflatten(-1, (GROUPS, CODES))
    return gumbel_quantize(logits, module.vars.view(GROUPS, CODES, -1), module.curr_temp, noise)


def test_without_noise_it_is_fairseqs_quantizer_in_evaluation():
    module, features = quantizer().eval(), torch.randn(3, 20, 24)
    expected, got = module(features, produce_targets=True), ours(module, features, None)
    assert torch.allclose(got.vectors_BMD, expected["x"])
    assert torch.equal(got.codes_BMG, expected["targets"])
    assert got.code_perplexity.item() == pytest.approx(expected["code_perplexity"].item(), rel=1e-5)
    assert got.prob_perplexity.item() == pytest.approx(expected["prob_perplexity"].item(), rel=1e-5)


def test_with_the_same_noise_it_is_fairseqs_quantizer_in_training():
    module, features = quantizer().train(), torch.randn(3, 20, 24)
    torch.manual_seed(5)
    expected = module(features, produce_targets=True)
    expected["x"].square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()
    # torch's gumbel_softmax draws its exponentials in this shape from the generator that was just seeded.
    torch.manual_seed(5)
    noise = -torch.empty(3 * 20 * GROUPS, CODES).exponential_().log()
    got = ours(module, features, noise.view(3, 20, GROUPS, CODES))
    got.vectors_BMD.square().sum().backward()
    assert torch.equal(got.codes_BMG, expected["targets"])
    assert torch.allclose(got.vectors_BMD, expected["x"], atol=1e-6)
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


def test_noise_is_standard_gumbel_and_seeded():
    noise = gumbel_noise((200_000,), torch.Generator().manual_seed(1))
    assert torch.equal(noise, gumbel_noise((200_000,), torch.Generator().manual_seed(1)))
    assert noise.mean().item() == pytest.approx(0.5772156649, abs=0.02)
    assert noise.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)


def test_perplexity_of_uniform_probabilities_is_the_number_of_codes():
    logits = torch.zeros(1, 8, GROUPS, CODES)
    logits[0, torch.arange(8), 0, torch.arange(8)] = 1e-4  # eight codes of the first group are used, one of the second
    quantized = gumbel_quantize(logits, torch.randn(GROUPS, CODES, 4), 1.0, None)
    assert quantized.prob_perplexity.item() == pytest.approx(GROUPS * CODES, rel=1e-3)
    assert quantized.code_perplexity.item() == pytest.approx(8 + 1, rel=1e-3)


def test_vectors_are_the_codebooks_rows():
    codebook = torch.randn(GROUPS, CODES, 4)
    logits = torch.randn(2, 5, GROUPS, CODES)
    quantized = gumbel_quantize(logits, codebook, 1.0, None)
    expected = torch.cat([F.embedding(quantized.codes_BMG[..., g], codebook[g]) for g in range(GROUPS)], dim=-1)
    assert torch.allclose(quantized.vectors_BMD, expected)
