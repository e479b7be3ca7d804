"""What model.autocast comes to on a machine: whether the two-view pass multiplies in bfloat16.

`auto` asks for AMX, with which a step of recipes/small takes two thirds of float32's time. With AVX512-BF16 alone it
took four fifths, and its curve was further from float32's than seeds are from each other: no bargain
(docs/benchmarks.md).
"""

from __future__ import annotations

import torch

AMX = "AMX"


def bf16_instructions() -> str | None:
    """Name the instructions by which this processor multiplies in bfloat16; None where it has none."""
    if torch.cpu._is_amx_tile_supported():
        return AMX
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else None


def uses_bf16(autocast: str, device: torch.device) -> bool:
    """Tell whether the two-view pass multiplies in bfloat16 on this device with model.autocast set so."""
    return autocast == "bf16" or (autocast == "auto" and device.type == "cpu" and bf16_instructions() == AMX)


def precision_chosen(autocast: str, device: torch.device) -> str:
    """Return what model.autocast comes to on this device, for the plan line: "" for none, else ", matrix ..."."""
    if autocast == "none":
        return ""
    reason = "model.autocast=bf16"
    if autocast == "auto":
        instructions = bf16_instructions() if device.type == "cpu" else None
        has = f"{instructions} alone" if instructions not in (None, AMX) else instructions
        reason = f"model.autocast=auto: this processor has {has or 'no instructions for bfloat16'}"
        if device.type != "cpu":
            reason = "model.autocast=auto: for CPUs alone, common.bf16 is for GPUs"
    return f", matrix products in {'bfloat16' if uses_bf16(autocast, device) else 'float32'} ({reason})"
