"""The folded network against fairseq's own, whole and in its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel, make_conv_pos
from fairseq.modules import MultiheadAttention
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.benchmark.random_ctc import trainer_state
from ccc_w2v.decode.cpu import network as cpu_network
from ccc_w2v.decode.cpu.linear import PackedAttention
from ccc_w2v.decode.cpu.network import FoldedFeatures, FourierConvolution, StridedConvolution, fold
from ccc_w2v.decode.ctc_model import CtcModel, load_ctc
from ccc_w2v.decode.long_windows import Windows, emit_long
from ccc_w2v.decode.network import emit
from tests.tiny_ctc import build_ctc, read_waves, save

LAYERS = [(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 30), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_products_are_the_convolution(
    kernel: int, stride: int, channels: int, more: int, biased: bool, gelu: bool
) -> None:
    values_TC = seeded(kernel + more, channels)
    with torch.random.fork_rng(devices=[]):
        convolution = torch.nn.Conv1d(channels, 7, kernel, stride=stride, bias=biased)
    with torch.inference_mode():
        expected = convolution(values_TC.T[None])[0].T
        expected = torch.nn.functional.gelu(expected) if gelu else expected
        actual = StridedConvolution(convolution, gelu=gelu)(values_TC)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("packs", [True, False])
def test_attention_is_fairseqs(packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not packs:  # a torch without oneDNN
        monkeypatch.setattr("ccc_w2v.decode.cpu.linear.pack_linear", lambda weight: None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attention = MultiheadAttention(24, 4, self_attention=True).eval()
    x_TBC, padding_BT = seeded(9, 2, 24), torch.zeros(2, 9, dtype=torch.bool)
    padding_BT[1, 6:] = True
    with torch.inference_mode():
        for mask in (None, padding_BT):
            expected, _ = attention(query=x_TBC, key=x_TBC, value=x_TBC, key_padding_mask=mask, need_weights=False)
            actual, _ = PackedAttention(attention)(query=x_TBC, key=x_TBC, value=x_TBC, key_padding_mask=mask)
            torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mode", ["default", "layer_norm"])
@pytest.mark.parametrize("stretch", [1, 7, 100])
def test_features_are_fairseqs(mode: str, bias: bool, stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_network, "STRETCH", stretch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = ConvFeatureExtractionModel(LAYERS, mode=mode, conv_bias=bias).eval()
        for name, parameter in features.named_parameters():
            if name.endswith("bias") or ".2." in name:  # norms and biases as a training leaves them
                torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        # Off centre and of uneven level: the fold must not lose what group norm takes away.
        source_BS = 0.3 + seeded(2, 8200) * torch.linspace(0.01, 1, 8200)
        expected, actual = features(source_BS), FoldedFeatures(features)(source_BS)
    assert actual.shape == expected.shape == (2, 16, 25)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 63, 128, 129, 500])
@pytest.mark.parametrize("kernel", [32, 127, 128])
def test_fourier_convolution_is_fairseqs(kernel: int, frames: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolution = make_conv_pos(24, kernel, 4)[0].eval()
        torch.nn.init.normal_(convolution.bias)
        torch.nn.init.uniform_(convolution.weight_g, 0.5, 2)
    with torch.no_grad():
        values_BCT = seeded(2, 24, frames)
        expected, actual = convolution(values_BCT), FourierConvolution(convolution)(values_BCT)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"extractor_mode": "default"}, {"extractor_mode": "layer_norm"}, {"extractor_mode": "default", "conv_pos": 64}],
)
def test_emissions_stay_the_same(settings: dict[str, Any], test_set: Path, tmp_path: Path) -> None:
    path = save(trainer_state(*build_ctc(test_set.parent, **settings)), tmp_path / "ctc.pt")
    plain, model, waves = load_ctc(path), load_ctc(path), read_waves(test_set)
    fold(model)
    fourier = settings.get("conv_pos", 16) >= cpu_network.MIN_FOURIER_KERNEL
    assert any(isinstance(part, FourierConvolution) for part in model.network.modules()) is fourier
    for left, right in zip(emit(model, waves), emit(plain, waves), strict=True):
        torch.testing.assert_close(left, right, atol=2e-5, rtol=0)


@pytest.mark.parametrize("mode", ["default", "layer_norm"])
def test_windows_over_a_long_recording_stay_the_same(mode: str, test_set: Path, tmp_path: Path) -> None:
    path = save(trainer_state(*build_ctc(test_set.parent, extractor_mode=mode)), tmp_path / "ctc.pt")
    wave_S = 0.1 + 0.3 * seeded(40_000) * torch.linspace(0.01, 1, 40_000)

    def windowed(model: CtcModel) -> torch.Tensor:
        def read(start: int, length: int) -> np.ndarray:
            return wave_S[start : start + length].numpy()

        return torch.cat(list(emit_long(model, read, 40_000, Windows(50, 20), 20_000, "long")))

    plain, model = load_ctc(path), load_ctc(path)
    fold(model)
    torch.testing.assert_close(windowed(model), windowed(plain), atol=2e-5, rtol=0)


def test_other_precisions_stay_as_they_are(checkpoint: Path) -> None:
    model = load_ctc(checkpoint)
    model.network.to(torch.bfloat16)
    fold(model)
    assert not any(isinstance(part, FoldedFeatures) for part in model.network.modules())
