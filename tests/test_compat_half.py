"""Half-precision convolutions on a CPU, where the kernel is right and where it is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccc_w2v.compat_half import TOLERANCE, check_half_convolutions, relative_error
from ccc_w2v.decode.cpu.network import fold
from ccc_w2v.decode.ctc_model import load_ctc
from ccc_w2v.decode.network import emit
from tests.tiny_ctc import read_waves
from tests.tiny_models import NO_DROPOUT, tiny_ccc

right_conv1d = F.conv1d


def right_on_every_processor(input: Tensor, weight: Tensor, bias: Tensor | None = None, *arguments: object) -> Tensor:
    """Convolve in float32 and round to what a half-precision kernel would return."""
    with torch.autocast("cpu", enabled=False):
        output = right_conv1d(input.float(), weight.float(), None if bias is None else bias.float(), *arguments)
    return output.bfloat16() if in_bfloat16(input) else output


def in_bfloat16(input: Tensor) -> bool:
    return input.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")


def wrong_in_bfloat16(input: Tensor, weight: Tensor, *arguments: object) -> Tensor:
    """Do as oneDNN does on processors with AMX: a grouped bfloat16 convolution of other channels."""
    grouped = weight.shape[1] != input.shape[1]
    return right_on_every_processor(
        input.roll(1, dims=1) if grouped and in_bfloat16(input) else input, weight, *arguments
    )


def wrong_only_backwards(input: Tensor, weight: Tensor, *arguments: object) -> Tensor:
    """Return the right output, with the gradient of a wrong one."""
    wrong, right = wrong_in_bfloat16(input, weight, *arguments), right_on_every_processor(input, weight, *arguments)
    return wrong + (right - wrong).detach()


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what earlier tests have found out."""
    check_half_convolutions()
    monkeypatch.setattr(nn.Conv1d._conv_forward.known, "right", {})


def convolution(channels: int = 32, groups: int = 4, kernel: int = 8, **settings: object) -> nn.Conv1d:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv1d(channels, channels, kernel, groups=groups, **settings)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_right_kernel_is_far_below_the_tolerance(groups: int, dtype: torch.dtype, training: bool) -> None:
    # 16 channels a group, and one group: right on every processor that is known.
    layer = convolution(32, groups, 5, stride=2, padding=3, dilation=2)
    assert 0 < relative_error(layer, dtype, generator(), training=training) < TOLERANCE / 4


def test_a_wrong_kernel_is_far_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "conv1d", wrong_in_bfloat16)
    assert relative_error(convolution(), torch.bfloat16, generator(), training=False) > 30 * TOLERANCE
    monkeypatch.setattr(F, "conv1d", wrong_only_backwards)
    assert relative_error(convolution(), torch.bfloat16, generator(), training=False) < TOLERANCE
    assert relative_error(convolution(), torch.bfloat16, generator(), training=True) > 30 * TOLERANCE


def outputs(layer: nn.Conv1d, how: str) -> list[Tensor]:
    """Return the layer's output and gradients, run with weights in bfloat16 or under autocast."""
    copy, source = nn.Conv1d(32, 32, 8, groups=4), seeded(3, 32, 40).requires_grad_()
    copy.load_state_dict(layer.state_dict())
    if how == "weights":
        output = copy.to(torch.bfloat16)(source.to(torch.bfloat16))
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
            output = copy(source)
    output.float().square().sum().backward()
    return [output, source.grad, copy.weight.grad, copy.bias.grad]


def errors(actual: list[Tensor], expected: list[Tensor]) -> list[float]:
    pairs = zip(actual, expected, strict=True)
    return [float((a.detach().float() - e.detach()).norm() / e.detach().norm()) for a, e in pairs]


@pytest.mark.parametrize("kernel", [wrong_in_bfloat16, wrong_only_backwards])
@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_where_the_kernel_is_wrong_outputs_and_gradients_are_right_and_one_line_says_so(
    how: str, kernel: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = convolution()
    expected = outputs(layer, "single")
    monkeypatch.setattr(F, "conv1d", kernel)
    with monkeypatch.context() as unguarded:
        unguarded.setattr(nn.Conv1d, "_conv_forward", nn.Conv1d._conv_forward.__wrapped__)
        assert max(errors(outputs(layer, how), expected)) > 0.5
    with caplog.at_level(logging.WARNING):
        actual = outputs(layer, how)
        convolution(32, 8, 6).to(torch.bfloat16)(seeded(1, 32, 40).bfloat16())
    assert max(errors(actual, expected)) < 0.02
    assert actual[0].dtype == torch.bfloat16
    (record,) = caplog.records
    assert "computes torch.bfloat16 convolutions wrongly (32 channels, 4 groups, kernel 8" in record.message


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_where_the_kernel_is_right_it_is_used_and_checked_once(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer, called = convolution(32, 2), []

    def counted(input: Tensor, *arguments: object) -> Tensor:
        half = input.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        called.append("half" if half else "single")
        return right_conv1d(input, *arguments)

    monkeypatch.setattr(F, "conv1d", counted)
    layer.to(torch.bfloat16 if how == "weights" else torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        for _ in range(3):
            layer(seeded(1, 32, 20).to(layer.weight.dtype))
    assert called == ["single", "half"] + 3 * ["half"]  # the check, then the layer
    assert not caplog.records


def test_single_precision_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, source = convolution(), seeded(1, 32, 20)
    assert torch.equal(layer(source), right_conv1d(source, layer.weight, layer.bias, groups=4))
    assert not nn.Conv1d._conv_forward.known.right


@pytest.mark.parametrize("packed", [False, True])
def test_decoding_with_a_wrong_kernel_is_near_single_precision(
    packed: bool,
    checkpoint: Path,
    test_set: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, waves = load_ctc(checkpoint), read_waves(test_set)[:1]
    single = emit(model, waves)[0]
    model.network.to(torch.bfloat16)
    if packed:
        fold(model)
    monkeypatch.setattr(F, "conv1d", wrong_in_bfloat16)
    with monkeypatch.context() as unguarded:
        unguarded.setattr(nn.Conv1d, "_conv_forward", nn.Conv1d._conv_forward.__wrapped__)
        wrong = (emit(model, waves)[0] - single).abs().max()
    assert (emit(model, waves)[0] - single).abs().max() < min(0.5, wrong)


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_gradients_of_a_training_with_a_wrong_kernel_are_near_single_precisions(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(F, "conv1d", wrong_in_bfloat16)

    def gradients(how: str) -> Tensor:
        model = tiny_ccc(**NO_DROPOUT).train()
        source = 0.1 * seeded(2, 16000)
        if how == "weights":
            model, source = model.bfloat16(), source.bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
            output = model.extract_features(source, None)["x"]
        (output.float() * seeded(*output.shape)).sum().backward()
        return model.encoder.pos_conv[0].weight_v.grad.float()

    single = gradients("single")
    assert (gradients(how) - single).norm() < 0.2 * single.norm()
    with monkeypatch.context() as unguarded:
        unguarded.setattr(nn.Conv1d, "_conv_forward", nn.Conv1d._conv_forward.__wrapped__)
        assert (gradients(how) - single).norm() > 0.5 * single.norm()
