"""What else is in a checkpoint that anyone may have written: checked to be what its readers take it for.

torch.load(weights_only=True) gives plain objects and tensors, in whatever arrangement the file wants.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch

from ccc_w2v.checkpoint.sizes import check_sizes
from ccc_w2v.checkpoint.untrusted import plain_settings
from ccc_w2v.errors import InputError

MAX_SYMBOLS = 1_000_000


def plain_state(state: Any) -> dict[str, Any]:
    """Return a fairseq checkpoint's state with inert settings (see plain_settings), its other parts known to be whole.

    Raises InputError for a state without tensors by name or settings, for tensors that are larger than their data, and
    for a history of updates or a dictionary that is none.
    """
    if not isinstance(state, dict) or "model" not in state or not (state.get("cfg") or state.get("args")):
        raise InputError("not a fairseq checkpoint, it lacks 'model' or 'cfg'")
    check_tensors(state["model"])
    plain = inert_state(state)
    _check_sections(plain.get("cfg"), "its")
    _check_history(state.get("optimizer_history"))
    if "ccc_export" in state:
        plain["ccc_export"] = _table(state["ccc_export"], "ccc_export")
    if "ccc_dictionary" in state:
        plain["ccc_dictionary"] = _dictionary(state["ccc_dictionary"])
    task = state.get("task_state")
    if task is not None and not isinstance(task, dict):
        raise InputError("its task_state is not a table")
    if (target := (task or {}).get("target_dictionary")) is not None:
        _dictionary({name: getattr(target, name, None) for name in ("symbols", "count")})
    return plain


def inert_state(state: Any) -> Any:
    """Return what a checkpoint file holds with inert settings, any model's; raises InputError as plain_settings does.

    The sizes of a wav2vec 2.0 are held against its tensors.
    """
    if not isinstance(state, dict):
        return state
    inert = {**state, **{name: plain_settings(state[name]) for name in ("cfg", "args") if state.get(name) is not None}}
    for place, model in _wav2vec2_models(inert.get("cfg"), "model"):
        check_tensors(state.get("model"))
        check_sizes(model, state["model"], place)
    return inert


def _wav2vec2_models(cfg: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sections of each wav2vec 2.0 in a configuration: the model itself, or the base of a fine-tuned one."""
    model = cfg.get("model") if isinstance(cfg, dict) else None
    if not isinstance(model, dict):
        return
    if model.get("_name") in ("wav2vec2", "ccc_wav2vec2"):
        yield place, model
    yield from _wav2vec2_models(model.get("w2v_args"), f"{place}.w2v_args.model")


def check_tensors(tensors: Any, name: str = "model") -> None:
    """Raise InputError where a part of a checkpoint is no table of tensors by name, or claims more than its data."""
    named = isinstance(tensors, dict) and all(isinstance(name, str) for name in tensors)
    if not named or not all(map(torch.is_tensor, tensors.values())):
        raise InputError(f"its {name!r} is not a table of tensors by name")
    for key, tensor in tensors.items():
        # A tensor of a few bytes may claim any shape, by strides of zero, as a sparse one or as one without data.
        dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InputError(f"its tensor {key[:80]} of shape {tuple(tensor.shape)} has no data of that size")


def _check_sections(cfg: Any, place: str) -> None:
    """Raise InputError where a configuration, or the base's inside it, is not one of sections."""
    if cfg is None or isinstance(cfg, argparse.Namespace):
        return
    sections = [cfg.get(name) for name in ("model", "task", "criterion")] if isinstance(cfg, dict) else ["none"]
    if not all(section is None or isinstance(section, (dict, argparse.Namespace)) for section in sections):
        raise InputError(f"{place} settings are not fairseq's; expected sections model, task, criterion")
    if isinstance(model := sections[0], dict):
        _check_sections(model.get("w2v_args"), "its base model's (model.w2v_args)")


def _check_history(history: Any) -> None:
    if history is None:
        return
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise InputError("its optimizer_history is not a list of tables")
    if not history:
        return
    updates = history[-1].get("num_updates", 0)
    if type(updates) is not int or not 0 <= updates < 2**63:
        raise InputError(f"its number of updates is {str(updates)[:40]!r}, expected a whole number")


def _dictionary(data: Any) -> dict[str, list]:
    symbols, count = (data.get(name) if isinstance(data, dict) else None for name in ("symbols", "count"))
    if not isinstance(symbols, list) or not isinstance(count, list) or not len(symbols) == len(count) <= MAX_SYMBOLS:
        raise InputError("its dictionary is not a list of symbols and one of their counts, of equal length")
    if not all(isinstance(symbol, str) for symbol in symbols) or not all(isinstance(number, int) for number in count):
        raise InputError("its dictionary holds symbols that are no text, or counts that are no whole numbers")
    return {"symbols": symbols, "count": count}


def _table(value: Any, name: str) -> dict[str, Any]:
    plain = plain_settings(value)
    if not isinstance(plain, dict):
        raise InputError(f"its {name} is not a table")
    for part in ("objective", "recipe", "manifest"):
        if not isinstance(plain.get(part, {}), dict):
            raise InputError(f"its {name}.{part} is not a table")
    return plain
