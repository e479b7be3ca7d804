"""Which of a checkpoint's two sets of weights is meant: the model's, or those of its moving average, the teacher."""

from __future__ import annotations

from typing import Any

from ccc_w2v.checkpoint.untrusted_state import check_tensors
from ccc_w2v.errors import InputError

WEIGHTS = ("model", "teacher")


def with_weights(state: dict[str, Any], weights: str) -> dict[str, Any]:
    """Return a checkpoint's state with the wanted weights in place of its model's.

    The teacher is fairseq's average of the model (ema.store_ema), in full precision where the checkpoint keeps that.
    Raises InputError for a checkpoint without one, or whose average is not of its model.
    """
    if weights == "model":
        return state
    extra = state.get("extra_state") or {}
    average = extra.get("ema")
    if not isinstance(average, dict):
        raise InputError(
            "--weights teacher: the checkpoint holds no average of the model; it was trained without ema.store_ema, or "
            "exported before"
        )
    precise = extra.get("ema_fp32_params") or {}
    for name, tensors in (("ema", average), ("ema_fp32_params", precise)):
        check_tensors(tensors, name)
    teacher: dict[str, Any] = {**average, **{name: precise[name] for name in average if name in precise}}
    model = state["model"]
    if teacher.keys() != model.keys() or any(teacher[name].shape != model[name].shape for name in model):
        raise InputError("--weights teacher: the checkpoint's average has other tensors than its model; it is damaged")
    return {**state, "model": teacher, "averaged": True}
