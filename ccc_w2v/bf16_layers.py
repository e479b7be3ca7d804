"""fairseq's layers where a CPU multiplies in bfloat16 by autocast: as exact, in less time (docs/benchmarks.md).

Under autocast torch runs attention in bfloat16, too, whose backward kernel takes longer than float32's on a CPU, and
fairseq converts to float32 and back around operations that compute in float32 within. In float32 the numbers are
fairseq's, bit for bit; elsewhere GELU may differ by a rounding. Layers change their class in place, since fairseq
builds them deep inside its encoders, and keep the names of their parameters.

Letters: T frames, B utterances, E width, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fairseq.modules import Fp32GroupNorm, MultiheadAttention, gelu
from torch import Tensor, nn


def under_bf16(module: nn.Module) -> None:
    """Let the layers of a fairseq model take less time under autocast on a CPU, in place."""
    part: Any
    for part in module.modules():
        if type(part) is MultiheadAttention:
            part.__class__ = Attention
        elif type(part) is Fp32GroupNorm:
            part.__class__ = GroupNorm
        elif getattr(part, "activation_fn", None) is gelu:
            # torch's own computes in float32 within, and does not keep a copy in float32 for its gradient.
            part.activation_fn = F.gelu


def as_in_fairseq(module: nn.Module) -> None:
    """Undo under_bf16, in place: what its layers save is measured against these."""
    part: Any
    for part in module.modules():
        if isinstance(part, Attention | GroupNorm):
            part.__class__ = MultiheadAttention if isinstance(part, Attention) else Fp32GroupNorm
        elif getattr(part, "activation_fn", None) is F.gelu:
            part.activation_fn = gelu


def _in_bf16(tensor: Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


class Attention(MultiheadAttention):
    """Self-attention whose projections are multiplied in bfloat16 and whose attention is in float32."""

    def forward(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        key_padding_mask: Tensor | None = None,
        incremental_state: Any = None,
        need_weights: bool = True,
        static_kv: bool = False,
        attn_mask: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as fairseq does: query (T, B, E), key_padding_mask bool (B, T), True where there is nothing."""
        plain = query is key and query is value and self.bias_k is None and not self.add_zero_attn
        if need_weights or attn_mask is not None or not plain or not _in_bf16(query):
            result: tuple[Tensor, Tensor | None] = super().forward(
                query,
                key,
                value,
                key_padding_mask=key_padding_mask,
                incremental_state=incremental_state,
                need_weights=need_weights,
                static_kv=static_kv,
                attn_mask=attn_mask,
                **others,
            )
            return result
        # (T, B, E) -> (B, H, T, E / H)
        heads = [
            projection(query).unflatten(2, (self.num_heads, self.head_dim)).permute(1, 2, 0, 3)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        ]
        attended = None if key_padding_mask is None else ~key_padding_mask.bool()[:, None, None, :]
        dropout = self.dropout_module.p if self.training else 0.0
        with torch.autocast("cpu", enabled=False):
            queries, keys, values = (part.float() for part in heads)
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=attended, dropout_p=dropout)
        return self.out_proj(mixed.permute(2, 0, 1, 3).flatten(2)), None


class GroupNorm(Fp32GroupNorm):
    """Group normalisation that reads and writes bfloat16 and takes its statistics in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, L) over time and the channels of each group."""
        if not _in_bf16(input):
            exact: Tensor = super().forward(input)
            return exact
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
