"""Linear layers whose weights lie as oneDNN's kernels want them: a CPU reads them faster, and GELU costs nothing.

torch multiplies matrices by MKL, which on AMD's processors is the slower of the two by a tenth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class PackedLinear(nn.Module):
    """A linear layer in float32 on a CPU, of a weight (out, in) and a bias (out) or none; GELU after it if asked."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, gelu: bool = False):
        super().__init__()
        self.weight, self.bias, self.gelu = weight.detach(), None if bias is None else bias.detach(), gelu
        self.packed = pack_linear(self.weight)
        if self.packed is not None:
            del self.weight  # one copy is enough

    def forward(self, values: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
        """Return (..., out) of ``values`` (..., in), with ``added`` (..., out) on top before GELU."""
        if self.packed is None:
            result = F.linear(values, self.weight, self.bias)
            result = result if added is None else result + added
            return F.gelu(result) if self.gelu else result
        if added is None:
            return self.packed(values, self.bias, self.gelu)
        result = self.packed.add(values, self.bias, added)
        return F.gelu(result) if self.gelu else result


class PackedAttention(nn.Module):
    """fairseq's self-attention in eval mode: one product for queries, keys and values, then torch's fused attention."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        projections = [attention.get_submodule(f"{name}_proj") for name in ("q", "k", "v")]
        weights, biases = zip(*((projection.weight, projection.bias) for projection in projections), strict=True)
        self.heads = int(attention.num_heads)  # type: ignore[arg-type]
        self.together = PackedLinear(torch.cat([weight.detach() for weight in weights]), torch.cat(biases))
        out = attention.get_submodule("out_proj")
        self.out = PackedLinear(out.weight, out.bias)  # type: ignore[arg-type]

    def forward(
        self, query: torch.Tensor, key_padding_mask: torch.Tensor | None = None, **unused: object
    ) -> tuple[torch.Tensor, None]:
        """Return (T, B, C) of ``query`` (T, B, C), which is key and value too; no frame sees the padding (B, T)."""
        frames, batch, channels = query.shape
        # (T, B, 3 x H x D) -> (T, B, 3, H, D) -> three of (B, H, T, D).
        projected = self.together(query).view(frames, batch, 3, self.heads, -1)
        queries, keys, values = projected.permute(2, 1, 3, 0, 4)
        # (B, 1, 1, T): True where a key may be seen, by every head and query.
        seen = None if key_padding_mask is None else ~key_padding_mask[:, None, None, :]
        mixed_BHTD = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        # (B, H, T, D) -> (T, B, H x D).
        return self.out(mixed_BHTD.permute(2, 0, 1, 3).reshape(frames, batch, channels)), None


class _Packed:
    """A weight in oneDNN's own layout; called, the linear layer of it."""

    def __init__(self, weight: torch.Tensor):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())

    def __call__(self, values: torch.Tensor, bias: torch.Tensor | None, gelu: bool) -> torch.Tensor:
        activation: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
        return torch.ops.mkldnn._linear_pointwise(values, self.weight, bias, *activation)

    def add(self, values: torch.Tensor, bias: torch.Tensor | None, added: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(values, added, self.weight, bias, "add")


def pack_linear(weight: torch.Tensor) -> _Packed | None:
    """Return a linear layer's weight (out, in), float32 on a CPU, in oneDNN's layout; None where torch has no oneDNN.

    The operators are those that torch.compile's CPU code calls; torch has no public name for them, and it is pinned.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return None
    return _Packed(weight)
