"""fairseq's layers under bfloat16 autocast on a CPU: as near to float32 as its own; without it they do not differ."""

import copy

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import TransformerSentenceEncoderLayer
from fairseq.modules import Fp32GroupNorm, MultiheadAttention

from ccc_w2v.bf16_layers import Attention, GroupNorm, as_in_fairseq, under_bf16
from tests.tiny_models import tiny_ccc, tiny_fairseq

FRAMES, UTTERANCES, WIDTH = 50, 3, 32


def layers(dropout: float = 0.0) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a layer of fairseq's Transformer, and the same as we run it."""
    torch.manual_seed(1)
    theirs = TransformerSentenceEncoderLayer(
        WIDTH, 4 * WIDTH, 4, 0.0, dropout, 0.0, activation_fn="gelu", layer_norm_first=True
    )
    ours = copy.deepcopy(theirs)
    under_bf16(ours)
    return theirs, ours


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def padding() -> torch.Tensor:
    padding_BT = torch.zeros(UTTERANCES, FRAMES, dtype=torch.bool)
    padding_BT[1, 30:] = True
    return padding_BT


def results(layer, values, *arguments, autocast: bool, **keywords) -> list[torch.Tensor]:
    """Return a layer's output, and the gradients of its input and parameters."""
    values = values.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = layer(values, *arguments, **keywords)
    output = output[0] if isinstance(output, tuple) else output
    output.float().backward(drawn(*output.shape))
    return [part.detach().float() for part in (output, values.grad, *(of.grad for of in layer.parameters()))]


def error(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    """Return how far each tensor is from what is expected, by its norm or, if near 0, the largest norm."""
    scale = max(float(of.norm()) for of in expected)
    pairs = zip(actual, expected, strict=True)
    return [float((a - e).norm() / max(float(e.norm()), 1e-3 * scale)) for a, e in pairs]


def assert_as_near(as_ours: list[float], as_theirs: list[float]) -> None:
    # Roundings differ, and a gradient's error is a random number; 0.05 is far below what a mistake makes.
    assert max(as_ours) < 0.05
    assert sum(as_ours) < 1.1 * sum(as_theirs)


@pytest.mark.parametrize("padded", [False, True])
def test_a_layer_is_as_near_to_float32_as_fairseqs_under_autocast(padded):
    theirs, ours = layers()
    values = drawn(FRAMES, UTTERANCES, WIDTH)
    keywords = {"self_attn_padding_mask": padding() if padded else None, "need_weights": False}
    exact = results(theirs, values, autocast=False, **keywords)
    as_theirs = error(results(theirs, values, autocast=True, **keywords), exact)
    as_ours = error(results(ours, values, autocast=True, **keywords), exact)
    assert_as_near(as_ours, as_theirs)


@pytest.mark.parametrize("padded", [False, True])
def test_without_autocast_a_layer_is_fairseqs_bit_for_bit(padded):
    theirs, ours = layers()
    keywords = {"self_attn_padding_mask": padding() if padded else None, "need_weights": False}
    values = drawn(FRAMES, UTTERANCES, WIDTH)
    for expected, actual in zip(
        *(results(of, values, autocast=False, **keywords) for of in (theirs, ours)), strict=True
    ):
        assert torch.equal(actual, expected)


def test_attention_that_is_asked_for_its_weights_is_fairseqs():
    theirs, ours = layers()
    values = drawn(FRAMES, UTTERANCES, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        expected, actual = (of.self_attn(values, values, values, need_weights=True) for of in (theirs, ours))
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_dropout_of_attention_is_only_in_training():
    _, ours = layers(dropout=0.5)
    values = drawn(FRAMES, UTTERANCES, WIDTH)

    def twice() -> bool:
        with torch.autocast("cpu", torch.bfloat16):
            first, second = (ours.self_attn(values, values, values, need_weights=False)[0] for _ in range(2))
        return torch.equal(first, second)

    assert not twice()
    ours.eval()
    assert twice()


def test_gelu_differs_from_fairseqs_by_a_rounding_at_most():
    theirs, ours = layers()
    values = (8 * drawn(1000, WIDTH)).bfloat16()
    outputs, gradients = [], []
    for layer in (theirs, ours):
        copied = values.clone().requires_grad_()
        outputs.append(layer.activation_fn(copied))
        outputs[-1].backward(drawn(1000, WIDTH).bfloat16())
        gradients.append(copied.grad)
    assert theirs.activation_fn is not ours.activation_fn
    # Which kernel a processor has decides: of AVX-512's the bits are the same, of AVX2's not.
    torch.testing.assert_close(*outputs, rtol=2**-7, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=2**-7, atol=1e-6)


def test_what_is_undone_is_fairseqs():
    theirs, ours = layers()
    as_in_fairseq(ours)
    assert [type(part) for part in ours.modules()] == [type(part) for part in theirs.modules()]
    assert ours.activation_fn is theirs.activation_fn


def test_a_group_norm_is_as_near_to_float32_as_fairseqs():
    theirs = Fp32GroupNorm(8, 8)
    torch.nn.init.normal_(theirs.weight)
    ours = copy.deepcopy(theirs)
    under_bf16(ours)
    # What the first convolution makes of quiet speech: means far from 0, which statistics in bfloat16 would not bear.
    values = (drawn(UTTERANCES, 8, 5000) + 5).bfloat16().float()
    exact = results(theirs, values, autocast=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(values.bfloat16()).dtype == torch.bfloat16
    as_theirs, as_ours = (error(results(of, values.bfloat16(), autocast=True), exact) for of in (theirs, ours))
    assert_as_near(as_ours, as_theirs)
    assert torch.equal(ours(values), theirs(values))


def test_a_model_has_them_with_fairseqs_names():
    model = tiny_ccc()
    kinds = {type(part) for part in model.modules()}
    assert {Attention, GroupNorm} <= kinds
    assert not {MultiheadAttention, Fp32GroupNorm} & kinds
    assert list(model.state_dict()) == list(tiny_fairseq().state_dict())
