"""How much of a device a training uses: model FLOPs utilisation (MFU), as PaLM defines it (arXiv 2204.02311, app. B).

The FLOPs are those that the network needs, forward and three times that with backward, whatever is computed again to
save memory; the quantizer and the losses, a few per cent, are left out. The limit is measured, not a data sheet's.
Letters: B utterances, S samples, T frames, D width of the Transformer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

WIDTHS = {"cuda": 4096, "cpu": 1024}


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of one wave through the parts of a wav2vec 2.0 network."""

    feature_encoder: int
    transformer: int


def forward_flops(model: Any, samples: int) -> ForwardFlops | None:
    """Return what one wave (S,) costs, two for each multiplication and addition; None for conformer layers."""
    encoder = model.encoder
    if not all(hasattr(layer, "fc1") for layer in encoder.layers):
        return None
    convolved, frames = 0, samples
    for block in model.feature_extractor.conv_layers:
        frames = (frames - block[0].kernel_size[0]) // block[0].stride[0] + 1
        convolved += _convolution(block[0], frames)
    width = encoder.embedding_dim
    products = 0 if model.post_extract_proj is None else model.post_extract_proj.weight.numel()
    products += sum(4 * width * width + layer.fc1.weight.numel() + layer.fc2.weight.numel() for layer in encoder.layers)
    attention = len(encoder.layers) * 4 * frames * frames * width
    # An even kernel makes a frame more, which fairseq cuts off.
    positions = sum(
        _convolution(part, frames + 1 - part.kernel_size[0] % 2)
        for part in encoder.pos_conv.modules()
        if isinstance(part, torch.nn.Conv1d)
    )
    return ForwardFlops(convolved, 2 * frames * products + attention + positions)


def _convolution(layer: torch.nn.Conv1d, frames: int) -> int:
    return 2 * frames * layer.out_channels * (layer.in_channels // layer.groups) * layer.kernel_size[0]


def training_flops(model: Any, utterances: int, samples: int, views: int, contexts: int, *, teachers: int = 0) -> int:
    """Return what a batch (B, S) costs, forward and backward, of some views and Transformer passes; 0 if unknown.

    A teacher of the same architecture goes forward alone, once.
    """
    flops = forward_flops(model, samples)
    if flops is None:
        return 0
    # A feature encoder without gradient goes forward only.
    encoder = flops.feature_encoder * (3 if model.feature_grad_mult > 0 else 1)
    forward = teachers * (flops.feature_encoder + flops.transformer)
    return utterances * (views * encoder + contexts * 3 * flops.transformer + forward)


def matmul_flops_per_second(dtype: torch.dtype, device: torch.device, width: int | None = None) -> float:
    """Return the rate at which the device multiplies two square matrices, the best of six: its practical limit."""
    width = width or WIDTHS.get(device.type, WIDTHS["cpu"])
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(width, width, generator=generator).to(device, dtype) for _ in range(2))
    return 2 * width**3 / min(_seconds(left, right) for _ in range(6))


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    _wait(left.device)
    start = time.perf_counter()
    left @ right
    _wait(left.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
