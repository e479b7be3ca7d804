"""Reading a checkpoint file: tensors and plain data only, and one line on what is wrong with any other file."""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from ccc_w2v.checkpoint.untrusted_state import plain_state
from ccc_w2v.compat import allow_fairseq_checkpoints, silence_debugging
from ccc_w2v.errors import InputError


def load_untrusted(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file on the CPU, with weights_only=True whatever the environment says and inert settings.

    Raises InputError for a file that is missing, truncated, or that pickles code, and as plain_state does.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint")
    allow_fairseq_checkpoints()
    silence_debugging()
    try:
        with warnings.catch_warnings():
            # torch warns about a foreign pickle's protocol before it refuses it: the refusal below says all.
            warnings.filterwarnings("ignore", message=".*pickle protocol.*")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError ... for one damaged file
        raise InputError(f"{path}: not a readable fairseq checkpoint ({_why_unreadable(error)})") from error
    try:
        return plain_state(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a fairseq checkpoint as load_untrusted does, upgraded by fairseq's own rules.

    Raises InputError as load_untrusted does, and for a checkpoint of a fairseq that kept ``args`` instead of a ``cfg``:
    fairseq's upgrade of those breaks on the installed hydra.
    """
    from fairseq.checkpoint_utils import _upgrade_state_dict

    state = load_untrusted(path)
    if state.get("args") is not None or _holds_namespace(state["cfg"]):
        raise InputError(f"{path}: keeps its settings as an old fairseq did; import it once with ccc-w2v import")
    state["cfg"] = OmegaConf.create(state["cfg"])
    try:
        return _upgrade_state_dict(state)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a whole fairseq checkpoint, its upgrade misses {error}") from error


def _holds_namespace(settings: Any) -> bool:
    if isinstance(settings, dict):
        return any(map(_holds_namespace, settings.values()))
    return isinstance(settings, argparse.Namespace)


def _why_unreadable(error: Exception) -> str:
    """Say why torch.load failed, without its advice to turn safety off."""
    lines = str(error).strip().splitlines() or [""]
    if match := re.search(
        r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class) (\S+)|got (?:an )?unsupported (\S+)", str(error)
    ):
        return f"it pickles {match[1] or match[2]}, which could run code; only tensors and plain data are loaded"
    if "weights_only" in lines[0] or "Weights only" in lines[0]:
        return "its pickle holds more than tensors and plain data"
    return f"{type(error).__name__}: {lines[0]}"
