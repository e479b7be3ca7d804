"""Convolutions in half precision on a CPU, checked against single precision once for each shape of layer.

torch 2.11's oneDNN computes some grouped bfloat16 convolutions wrongly on processors with AMX: with 8 channels per
group the relative error is 0.96, with 16 it is rounding. Nothing tells: transcripts and gradients are simply wrong. So
each shape of layer is tried once per process on a small random input; where it is wrong, such layers run in float32.
`docs/troubleshooting.md` has the symptom, the versions and the remedy.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)

HALF = (torch.bfloat16, torch.float16)
# Rounding of inputs and outputs to bfloat16 leaves 0.003; a kernel that takes wrong channels leaves about 1.
TOLERANCE = 0.03
UTTERANCES, FRAMES = 2, 64

Shape = tuple[Any, ...]  # of a layer: what oneDNN chooses its kernel by


class HalfConvolutions:
    """What this process knows of its half-precision convolutions: right or wrong, by shape of layer."""

    def __init__(self) -> None:
        self.right: dict[Shape, bool] = {}

    def trusted(self, layer: nn.Conv1d, dtype: torch.dtype, training: bool) -> bool:
        """Tell whether the layer may run in ``dtype`` here; the first wrong shape is warned of, in one line."""
        shape = (
            *(dtype, training, layer.in_channels, layer.out_channels, layer.groups, layer.bias is not None),
            *(layer.kernel_size, layer.stride, layer.padding, layer.dilation),
        )
        if shape not in self.right:
            error = relative_error(layer, dtype, torch.Generator().manual_seed(0), training=training)
            warned = not all(self.right.values())
            self.right[shape] = error < TOLERANCE  # not a number is wrong as well
            if not self.right[shape] and not warned:
                logger.warning(
                    f"this processor computes {dtype} convolutions wrongly ({layer.in_channels} channels, "
                    f"{layer.groups} groups, kernel {layer.kernel_size[0]}: relative error {error:.2g}); they run in "
                    "float32 instead, which is right and slower (docs/troubleshooting.md)"
                )
        return self.right[shape]


def relative_error(layer: nn.Conv1d, dtype: torch.dtype, generator: torch.Generator, *, training: bool) -> float:
    """Return how far a convolution of the layer's shape in ``dtype`` is from float32 on one random input (2-norms).

    With ``training`` the gradients of input, weight and bias count as well: the largest of the errors.
    """
    span = layer.dilation[0] * (layer.kernel_size[0] - 1) + 1 + layer.stride[0] * (FRAMES - 1)
    shapes: list[tuple[int, ...]] = [(UTTERANCES, layer.in_channels, span), tuple(layer.weight.shape)]
    shapes += [(layer.out_channels,)] if layer.bias is not None else []
    with torch.inference_mode(False), torch.set_grad_enabled(training), torch.autocast("cpu", enabled=False):
        drawn = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
        expected = _results([tensor.float() for tensor in drawn], layer, training)
        actual = _results(drawn, layer, training)
        return max(
            float((half.float() - single).norm() / single.norm()) for half, single in zip(actual, expected, strict=True)
        )


def _results(arguments: list[Tensor], layer: nn.Conv1d, training: bool) -> list[Tensor]:
    """Return the convolution's output, and in training the gradients of its arguments."""
    inputs = [tensor.detach().requires_grad_(training) for tensor in arguments]
    bias = inputs[2] if len(inputs) > 2 else None
    output = F.conv1d(inputs[0], inputs[1], bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    if not training:
        return [output]
    # One upstream gradient for both precisions.
    upstream = torch.linspace(-1, 1, output.numel()).view_as(output).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, inputs, upstream)]


@functools.cache
def check_half_convolutions() -> None:
    """Let every Conv1d that meets half precision on a CPU, by weights or by autocast, be checked as above.

    It is put into torch's layer, which fairseq builds its networks of in many places: so it holds for whatever is
    trained or decoded in this process.
    """
    known, convolve = HalfConvolutions(), nn.Conv1d._conv_forward

    @functools.wraps(convolve)
    def checked(self: nn.Conv1d, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dtype = _half_precision(input)
        if dtype is None or known.trusted(self, dtype, torch.is_grad_enabled()):
            return convolve(self, input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            single = convolve(self, input.float(), weight.float(), None if bias is None else bias.float())
        return single.to(dtype)

    checked.known = known  # type: ignore[attr-defined]
    nn.Conv1d._conv_forward = checked  # type: ignore[method-assign]


def _half_precision(input: Tensor) -> torch.dtype | None:
    """Return the half precision that a convolution of this input would run in on a CPU; None for any other case."""
    if input.device.type != "cpu":
        return None
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        return dtype if dtype in HALF and input.is_floating_point() else None
    return input.dtype if input.dtype in HALF else None
