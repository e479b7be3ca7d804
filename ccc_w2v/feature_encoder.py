"""fairseq's feature encoder for less: the masked frames alone, or its activations computed again for backward.

Letters: B utterances, S samples, T frames, M masked frames of each, C channels, L outputs of the first layer, F width.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recompute_activations(extractor: Any) -> None:
    """Let a feature encoder keep nothing for the backward pass but its input, and run forward again there.

    In place, so that the state dict keeps its names. Nothing in it draws: the numbers stay the same, bit for bit.
    """
    extractor.forward = functools.partial(_again, extractor.forward)


def masked_features(extractor: Any, source_BS: Tensor, mask_BT: Tensor, *, recompute: bool = False) -> Tensor:
    """Return the feature encoder's output (B, M, F) at the masked frames of ``mask_BT`` (bool, on the CPU).

    All utterances have M masked frames. The first layer runs over everything, since the base model's norm takes its
    statistics over time; all others only over what the masked frames are made of, a little more than half at the usual
    masks, with all utterances one after the other. Equal to selecting from the whole output, but for rounding. With
    ``recompute`` no activations are kept.
    """
    run = functools.partial(_again, _masked_features) if recompute else _masked_features
    return run(extractor, source_BS, mask_BT)


def _again(function: Any, *arguments: Any) -> Any:
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _masked_features(extractor: Any, source_BS: Tensor, mask_BT: Tensor) -> Tensor:
    first, *others = extractor.conv_layers
    *before, activation = first
    signal_BCL = source_BS.unsqueeze(1)
    for module in before:
        signal_BCL = module(signal_BCL)
    stride, span = _stride_and_span(others)
    # A frame is made of a block of `stride` outputs of the first layer, and of `halo` blocks after it.
    halo = math.ceil(span / stride) - 1
    needed_BT = torch.cat([mask_BT, mask_BT.new_zeros(len(mask_BT), halo)], dim=1)
    for shift in range(1, halo + 1):
        needed_BT[:, shift : shift + mask_BT.size(1)] |= mask_BT
    signal_1CL = activation(_joined_blocks(signal_BCL, needed_BT, stride))
    for layer in others:
        signal_1CL = layer(signal_1CL)
    # Which of the joined blocks each masked frame begins with; what crosses from one run to the next is not taken.
    order_BT = needed_BT.flatten().cumsum(0).view_as(needed_BT) - 1
    places_N = order_BT[:, : mask_BT.size(1)][mask_BT].to(source_BS.device)
    return signal_1CL[0].T.index_select(0, places_N).unflatten(0, (len(source_BS), -1))


def _stride_and_span(layers: list[Any]) -> tuple[int, int]:
    """Return by how many inputs the layers' outputs are apart, and how many inputs an output is made of."""
    stride, span = 1, 1
    for layer in reversed(layers):
        convolution = layer[0]
        stride, span = stride * convolution.stride[0], (span - 1) * convolution.stride[0] + convolution.kernel_size[0]
    return stride, span


def _joined_blocks(signal_BCL: Tensor, needed_BT: Tensor, stride: int) -> Tensor:
    """Return the blocks of ``stride`` outputs that are needed, of all utterances one after the other: (1, C, n stride).

    Split and joined, not indexed: the backward pass is then a copy, and its order is fixed. On a GPU, which would start
    a kernel for each part, they are picked in one.
    """
    if signal_BCL.is_cuda:
        picked: Tensor = _PickedBlocks.apply(signal_BCL, block_places(needed_BT, signal_BCL.size(2), stride))
        return picked.unsqueeze(0)
    blocks = []
    for signal_CL, needed_T in zip(signal_BCL.unbind(), needed_BT.tolist(), strict=True):
        position, sizes, wanted = 0, [], []
        for flag, run in itertools.groupby(needed_T):
            # The last block may reach beyond the signal, or end before it.
            end = min(position + stride * sum(1 for _ in run), signal_CL.size(1))
            sizes.append(end - position)
            wanted.append(flag)
            position = end
        sizes.append(signal_CL.size(1) - position)
        parts = signal_CL.split(sizes, dim=1)
        for part in itertools.compress(parts, wanted):
            missing = -part.size(1) % stride
            blocks.append(F.pad(part, (0, missing)) if missing else part)
    return torch.cat(blocks, dim=1).unsqueeze(0)


def block_places(needed_BT: Tensor, outputs: int, stride: int) -> Tensor:
    """Return where the needed blocks' outputs lie among all B x L ``outputs``, (N,); B x L for those beyond the end."""
    utterance_K, block_K = needed_BT.nonzero().unbind(dim=1)
    place_KS = (block_K * stride).unsqueeze(1) + torch.arange(stride)
    return torch.where(
        place_KS < outputs, utterance_K.unsqueeze(1) * outputs + place_KS, len(needed_BT) * outputs
    ).flatten()


class _PickedBlocks(torch.autograd.Function):
    """Outputs (C, N) picked by place out of (B, C, L); a place is picked once, so that the backward pass is a copy."""

    @staticmethod
    def forward(ctx: Any, signal_BCL: Tensor, place_N: Tensor) -> Tensor:
        """Pick them; the place behind the last is zero."""
        utterances, channels, outputs = ctx.shape = signal_BCL.shape
        place_N = place_N.to(signal_BCL.device, non_blocking=True)
        ctx.save_for_backward(place_N)
        all_CP = signal_BCL.new_zeros(channels, utterances * outputs + 1)
        all_CP[:, :-1].unflatten(1, (utterances, outputs)).copy_(signal_BCL.transpose(0, 1))
        return all_CP.index_select(1, place_N)

    @staticmethod
    def backward(ctx: Any, gradient_CN: Tensor) -> tuple[Tensor, None]:
        """Copy the gradients back."""
        (place_N,) = ctx.saved_tensors
        utterances, channels, outputs = ctx.shape
        all_CP = gradient_CN.new_zeros(channels, utterances * outputs + 1).index_copy_(1, place_N, gradient_CN)
        return all_CP[:, :-1].unflatten(1, (utterances, outputs)).transpose(0, 1), None
