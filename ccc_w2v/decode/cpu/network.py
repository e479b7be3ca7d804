"""The same network with less work: what decoding on a CPU in float32 can leave out of wav2vec 2.0's forward pass.

- The feature encoder's convolutions become matrix products over frames that lie in memory as they are, a stretch of
  frames at a time, so that the widest tensors (64 MB for 10 s of the base model's first layer) are never whole.
- The base model's group norm over time is folded into the first convolution: the mean and variance of a channel over
  the whole recording follow from the mean and covariance of its ten-sample frames.
- Linear layers are packed for the processor, with GELU inside (see packed_linear.py).
- The positional convolution over 128 frames is a product of Fourier transforms, a thirtieth of the multiplications;
  its weight norm is computed once.

Letters in shapes: S samples, T frames of a layer, C channels, K kernel, G groups, N samples of a Fourier transform.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models.wav2vec.wav2vec2 import TransformerSentenceEncoderLayer
from fairseq.modules import gelu as fairseq_gelu
from torch import nn

from ccc_w2v.decode.cpu.linear import PackedAttention, PackedLinear
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.long_windows import FixedNorm

# Frames of the network computed together: 2 s, whose first layer (13 MB) stays in the processor's cache.
STRETCH = 100
FOURIER_SAMPLES = 256
# Shorter kernels are faster as they are.
MIN_FOURIER_KERNEL = 32


def fold(model: CtcModel) -> None:
    """Change the network in place; its outputs stay the same to float rounding (about 1e-5).

    It then only decodes: its state dict is no longer fairseq's. Where it would not run on a CPU in float32, or has
    other parts than wav2vec 2.0's, it stays as it is.
    """
    parameter = next(model.network.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        return
    network: Any = model.network.w2v_encoder.w2v_model
    network.feature_extractor = FoldedFeatures(network.feature_extractor)
    for layer in network.encoder.layers:
        if type(layer) is TransformerSentenceEncoderLayer:
            _pack_layer(layer)
    first = network.encoder.pos_conv[0]
    if isinstance(first, nn.Conv1d) and first.kernel_size[0] >= MIN_FOURIER_KERNEL:
        network.encoder.pos_conv[0] = FourierConvolution(first)


def _pack_layer(layer: Any) -> None:
    layer.self_attn = PackedAttention(layer.self_attn)
    gelu = layer.activation_fn in (fairseq_gelu, F.gelu)  # bf16_layers.py puts torch's there
    layer.fc1 = PackedLinear(layer.fc1.weight, layer.fc1.bias, gelu=gelu)
    layer.fc2 = PackedLinear(layer.fc2.weight, layer.fc2.bias)
    if gelu:
        layer.activation_fn = nn.Identity()


class FoldedFeatures(nn.Module):
    """fairseq's ConvFeatureExtractionModel in eval mode, as products of matrices with channels last."""

    def __init__(self, features: nn.Module):
        super().__init__()
        # Kept, because windows over a long recording put statistics of the whole of it where its group norm is.
        self.conv_layers = features.conv_layers
        blocks: Any = self.conv_layers
        convolutions = [block[0] for block in blocks]
        self.kernels = [convolution.kernel_size[0] for convolution in convolutions]
        self.strides = [convolution.stride[0] for convolution in convolutions]
        self.first_weight_KC = convolutions[0].weight.detach()[:, 0].T.contiguous()
        self.first_bias_C = None if convolutions[0].bias is None else convolutions[0].bias.detach()
        self.width = convolutions[-1].out_channels
        norms = [next((part for part in block.modules() if isinstance(part, nn.LayerNorm)), None) for block in blocks]
        self.norms = nn.ModuleList(nn.Identity() if norm is None else norm for norm in norms)
        self.products = nn.ModuleList(
            StridedConvolution(convolution, gelu=isinstance(norm, nn.Identity))
            for convolution, norm in zip(convolutions[1:], list(self.norms)[1:], strict=True)
        )
        self.group_norms = any(isinstance(part, nn.GroupNorm) for part in blocks[0])

    def forward(self, source_BS: torch.Tensor) -> torch.Tensor:
        """Return features (B, C, T), as fairseq's module does."""
        return torch.stack([self._features(source_S) for source_S in source_BS]).transpose(1, 2)

    def _features(self, source_S: torch.Tensor) -> torch.Tensor:
        first, bias = self._first_layer(source_S)
        lengths = [len(source_S)]
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            lengths.append((lengths[-1] - kernel) // stride + 1)
        features_TC = source_S.new_empty(lengths[-1], self.width)
        for start in range(0, lengths[-1], STRETCH):
            stop = min(start + STRETCH, lengths[-1])
            features_TC[start:stop] = self._stretch(source_S, start, stop, first, bias)
        return features_TC

    def _stretch(
        self, source_S: torch.Tensor, start: int, stop: int, first: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the features of frames ``start`` to ``stop``, of the samples that they see."""
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            start, stop = start * stride, (stop - 1) * stride + kernel
        rows_TK = source_S[start:stop].unfold(0, self.kernels[0], self.strides[0])
        values_TC = rows_TK @ first if bias is None else torch.addmm(bias, rows_TK, first)
        values_TC = F.gelu(self.norms[0](values_TC))
        for product, norm in zip(self.products, list(self.norms)[1:], strict=True):
            values_TC = product(values_TC)
            if not product.gelu:
                values_TC = F.gelu(norm(values_TC))
        return values_TC

    def _first_layer(self, source_S: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the first layer's weight (K, C) and bias, with this recording's group norm inside where it has one."""
        weight_KC, bias_C = self.first_weight_KC, self.first_bias_C
        if not self.group_norms:
            return weight_KC, bias_C
        wide_KC = weight_KC.double()
        offset_C = wide_KC.new_zeros(wide_KC.shape[1]) if bias_C is None else bias_C.double()
        blocks: Any = self.conv_layers
        norm = blocks[0][2]
        if isinstance(norm, FixedNorm):
            mean_C, variance_C, norm = norm.mean_C.double(), norm.variance_C.double(), norm.norm
        else:
            frames_TK = source_S.unfold(0, self.kernels[0], self.strides[0]).double()
            mean_K = frames_TK.mean(dim=0)
            centred_TK = frames_TK - mean_K
            covariance_KK = centred_TK.T @ centred_TK / len(frames_TK)
            # What the group norm would measure over (T, C): mean and variance of linear functions of a frame.
            mean_C = mean_K @ wide_KC + offset_C
            variance_C = ((covariance_KK @ wide_KC) * wide_KC).sum(dim=0)
        scale_C = norm.weight.double() / (variance_C + norm.eps).sqrt()
        shift_C = norm.bias.double() + (offset_C - mean_C) * scale_C
        return (wide_KC * scale_C).float(), shift_C.float()


class StridedConvolution(nn.Module):
    """A convolution with channels last, as products with rows that lie in memory as they are.

    ``stride`` samples together are one row of a matrix; a longer kernel takes another product, shifted by a row.
    """

    def __init__(self, convolution: nn.Conv1d, *, gelu: bool):
        super().__init__()
        self.kernel, self.stride, self.gelu = convolution.kernel_size[0], convolution.stride[0], gelu
        # Rows in the order in which a frame lies in memory: sample by sample, its channels together.
        weight = convolution.weight.detach().permute(0, 2, 1)
        starts = range(0, self.kernel, self.stride)
        self.parts = nn.ModuleList(
            PackedLinear(
                weight[:, start : start + self.stride].flatten(1),
                convolution.bias if start == 0 else None,
                gelu=gelu and start + self.stride >= self.kernel,
            )
            for start in starts
        )

    def forward(self, values_TC: torch.Tensor) -> torch.Tensor:
        """Return (T', C') of contiguous ``values_TC``, after GELU where that was asked for."""
        channels = values_TC.shape[1]
        frames = (len(values_TC) - self.kernel) // self.stride + 1
        total: torch.Tensor | None = None
        for number, part in enumerate(self.parts):
            first = number * self.stride
            width = min(self.stride, self.kernel - first)
            rows = values_TC.as_strided(
                (frames, width * channels),
                (self.stride * channels, 1),
                values_TC.storage_offset() + first * channels,
            )
            total = part(rows, total)
        assert total is not None
        return total


class FourierConvolution(nn.Module):
    """A padded grouped convolution over time by Fourier transforms of overlapping blocks (overlap-save)."""

    def __init__(self, convolution: nn.Conv1d):
        super().__init__()
        parts: Any = convolution
        with torch.no_grad():
            normed = hasattr(parts, "weight_g")
            weight = torch._weight_norm(parts.weight_v, parts.weight_g, 2) if normed else parts.weight
        self.kernel, self.padding, self.groups = weight.shape[-1], int(convolution.padding[0]), convolution.groups
        self.bias = convolution.bias
        # Correlation, as in a network: the kernel backwards.
        spectra = torch.fft.rfft(weight.detach().flip(-1), n=FOURIER_SAMPLES)
        # I and O: input and output channels of one of G groups; F frequencies.
        by_group = spectra.unflatten(0, (self.groups, -1))  # (G, O, I, F)
        self.register_buffer("spectra", by_group.permute(3, 0, 2, 1).flatten(0, 1).contiguous(), persistent=False)

    def forward(self, values_BCT: torch.Tensor) -> torch.Tensor:
        """Return what the convolution returns, (B, C, T + 2 * padding - kernel + 1)."""
        batch, channels, frames = values_BCT.shape
        # Of N samples of a block the first K - 1 are wrapped around: a block gives N - K + 1 outputs.
        step = FOURIER_SAMPLES - self.kernel + 1
        outputs = frames + 2 * self.padding - self.kernel + 1
        blocks = -(-outputs // step)
        right = blocks * step + self.kernel - 1 - frames - self.padding
        blocks_BCLN = F.pad(values_BCT, (self.padding, right)).unfold(2, FOURIER_SAMPLES, step)
        # (B, C, L blocks, N) -> (B, G, I, L, F)
        spectrum = torch.fft.rfft(blocks_BCLN).view(batch, self.groups, -1, blocks, FOURIER_SAMPLES // 2 + 1)
        # -> (F, G, B, L, I) -> (F x G, B x L, I): at each frequency a group is one matrix product,
        rows = spectrum.permute(4, 1, 0, 3, 2).flatten(0, 1).flatten(1, 2)
        # by (F x G, I, O)
        products = torch.bmm(rows, self.get_buffer("spectra"))
        # -> (F, G, B, L, O) -> (B, G, O, L, F), from which (B, G, O, L, N) of time is made
        products = products.view(-1, self.groups, batch, blocks, channels // self.groups).permute(2, 1, 4, 3, 0)
        kept = torch.fft.irfft(products, n=FOURIER_SAMPLES)[..., self.kernel - 1 :]
        result = kept.reshape(batch, channels, blocks * step)[..., :outputs]
        return result if self.bias is None else result + self.bias[:, None]
