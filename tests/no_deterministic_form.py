"""Operations that raise on CUDA under torch.use_deterministic_algorithms(True), for the pretended device to refuse.

Source: the documentation of torch.use_deterministic_algorithms in torch 2.11 ("will throw a RuntimeError"), by the
dispatcher's names. Of those that it lacks, kthvalue, index_reduce and averages over two dimensions are from the callers
of alertNotDeterministic in ATen; multinomial adds up its weights by cumsum inside.
"""

from __future__ import annotations

from typing import Any

import torch

ALWAYS = {
    *("avg_pool2d_backward", "avg_pool3d_backward", "max_pool3d_with_indices_backward"),
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"),
    *("adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward"),
    *("fractional_max_pool2d_backward", "fractional_max_pool3d_backward", "max_unpool2d", "max_unpool3d"),
    *("upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    *("_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward", "upsample_trilinear3d_backward"),
    *("reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward"),
    *("nll_loss2d_forward", "nll_loss2d_backward", "_ctc_loss_backward", "_embedding_bag_dense_backward"),
    *("grid_sampler_2d_backward", "grid_sampler_3d_backward", "put", "put_", "histc", "kthvalue", "index_reduce"),
    *("multinomial", "index_reduce_"),
}


def refuse(function: Any, args: Any, kwargs: Any) -> None:
    """Raise RuntimeError for an operation that has no deterministic form on CUDA."""
    name, overload = function._schema.name.removeprefix("aten::"), function._schema.overload_name
    dtype = kwargs.get("dtype") or getattr(args[0] if args else None, "dtype", torch.int64)
    sums_floats = name in ("cumsum", "cumsum_") and (dtype.is_floating_point or dtype.is_complex)
    weighs = name == "bincount" and (len(args) > 1 and args[1] is not None or kwargs.get("weights") is not None)
    ranks = name in ("median", "nanmedian") and overload.startswith("dim")
    multiplies = name in ("scatter_reduce", "scatter_reduce_") and "prod" in (*args[4:5], kwargs.get("reduce"))
    if name in ALWAYS or sums_floats or weighs or ranks or multiplies:
        raise RuntimeError(f"aten::{name} has no deterministic form on CUDA")
