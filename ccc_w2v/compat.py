"""The only file that knows that fairseq, torch or Python versions differ.

Two stacks are supported by one code base: fairseq 0.12.2 (Python 3.10) and fairseq-fixed 0.12.3.1 (3.11 to 3.13),
both with torch 2.11. Each function below mends one trap and says which; `prepare()` applies those that a training
process needs and is called once, when the plugin registers itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.data.waiting import WaitClock
from ccc_w2v.errors import InputError, one_line_errors


def prepare() -> None:
    """Mend what stops fairseq's own trainer on torch 2.11 and on a CPU; harmless when called again."""
    allow_fairseq_checkpoints()
    train_on_cpu_processes()
    name_unknown_settings()


def allow_fairseq_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)``, torch's default since 2.6, read what fairseq writes.

    fairseq pickles a Dictionary into fine-tuned checkpoints and an argparse.Namespace into old ones. Both are plain
    data: unpickling them runs no code of the file's choosing.
    """
    from fairseq.data.dictionary import Dictionary

    torch.serialization.add_safe_globals([Dictionary, argparse.Namespace])


def load_checkpoint(path: str | Path, **overrides: Any) -> dict[str, Any]:
    """Load a fairseq checkpoint on the CPU with weights_only=True, upgraded by fairseq's own rules.

    ``overrides`` replace configuration values by name (fairseq's arg_overrides).
    Raises InputError for a file that is missing, truncated, no fairseq checkpoint, or that pickles code.
    """
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint")
    allow_fairseq_checkpoints()
    try:
        with warnings.catch_warnings():
            # torch warns about a foreign pickle's protocol before it refuses it: the refusal below says all.
            warnings.filterwarnings("ignore", message=".*pickle protocol.*")
            state = load_checkpoint_to_cpu(str(path), overrides or None)
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError ... for one damaged file
        raise InputError(f"{path}: not a readable fairseq checkpoint ({_why_unreadable(error)})") from error
    if not isinstance(state, dict) or "model" not in state or not (state.get("cfg") or state.get("args")):
        raise InputError(f"{path}: not a fairseq checkpoint, it lacks 'model' or 'cfg'")
    return state


def _why_unreadable(error: Exception) -> str:
    """Say why torch.load failed, without its advice to turn safety off."""
    lines = str(error).strip().splitlines() or [""]
    if found := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)|got (?:an )?unsupported (\S+)", str(error)):
        return f"it pickles {found[1] or found[2]}, which could run code; only tensors and plain data are loaded"
    if "weights_only" in lines[0] or "Weights only" in lines[0]:
        return "its pickle holds more than tensors and plain data"
    return f"{type(error).__name__}: {lines[0]}"


def train_on_cpu_processes() -> None:
    """Make fairseq's distributed trainer work on CPU processes (gloo), where it takes CUDA for granted.

    all_gather_list allocates its buffers on the GPU unless they exist already, torch's DDP is given a device id,
    and spawning counts GPUs. With torchrun, `distributed_no_spawn: true` and these two mends it runs.
    """
    if torch.cuda.is_available():
        return
    from fairseq.distributed import utils as distributed

    gather = distributed.all_gather_list
    if not hasattr(gather, "_buffer"):
        max_size = 16384  # the default of all_gather_list
        world_size = int(os.environ.get("WORLD_SIZE", 1))
        gather._buffer = torch.zeros(max_size * world_size, dtype=torch.uint8)
        gather._cpu_buffer = torch.zeros(max_size, dtype=torch.uint8)
    _drop_device_ids_on_cpu()


def _drop_device_ids_on_cpu() -> None:
    from fairseq.models import distributed_fairseq_model as module

    original = module.DistributedDataParallel
    if getattr(original, "drops_device_ids", False):
        return

    class CpuDistributedDataParallel(original):  # type: ignore[misc, valid-type]
        """torch's DDP without the device ids that fairseq passes and a CPU module refuses."""

        drops_device_ids = True

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.update(device_ids=None, output_device=None)
            super().__init__(*args, **kwargs)

    module.DistributedDataParallel = CpuDistributedDataParallel


def name_unknown_settings() -> None:
    """Turn omegaconf's traceback about a misspelt key of a task, model, criterion or optimiser into one line, exit 2.

    fairseq merges a run's configuration into the registered dataclasses right after it imports the plugin and before it
    calls any of its code, so that the plugin has no other place to say it.
    """
    import fairseq.dataclass.utils
    import fairseq.models
    import fairseq.registry
    import fairseq.tasks

    for module in (fairseq.dataclass.utils, fairseq.models, fairseq.registry, fairseq.tasks):
        if not hasattr(module.merge_with_parent, "__wrapped__"):
            module.merge_with_parent = _naming_unknown_settings(module.merge_with_parent)


def _naming_unknown_settings(merge: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(merge)
    def wrapped(dc: Any, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        # A checkpoint of another version may hold keys that are gone: fairseq removes those itself.
        from_checkpoint = args[0] if args else any(kwargs.values())
        known = {field.name for field in dataclasses.fields(dc)} if dataclasses.is_dataclass(dc) else set(cfg)
        unknown = sorted(set(cfg) - known)
        if unknown and not from_checkpoint:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            remedy = f"did you mean '{close[0]}'?" if close else f"it knows {', '.join(sorted(known))}"
            with one_line_errors():
                raise InputError(f"'{cfg.get('_name')}' has no setting '{unknown[0]}'; {remedy}")
        return merge(dc, cfg, *args, **kwargs)

    return wrapped


def watch_batches(epoch_iterator: Any, clock: WaitClock) -> None:
    """Let a clock time how long a training waits for the batches of fairseq's epoch iterator; harmless when repeated.

    fairseq says only that its buffer is nearly empty, once in some minutes, and has no place to ask for the time.
    """
    make = epoch_iterator._get_iterator_for_epoch
    if hasattr(make, "__wrapped__"):
        return

    @functools.wraps(make)
    def watched(*args: Any, **kwargs: Any) -> Any:
        batches = make(*args, **kwargs)
        if batches is not None:
            batches._itr = clock.watch(batches._itr)
        return batches

    epoch_iterator._get_iterator_for_epoch = watched


# What only one of the two fairseqs has in its configuration: 0.12.2 refuses to load any field that it does not know.
_FIELDS_OF_ONE_FAIRSEQ = {
    "OptimizationConfig": {"debug_param_names"},
    "GenerationConfig": {"beam_mt", "lenpen_mt", "max_len_a_mt", "max_len_b_mt"},
    "CtcCriterionConfig": {"wer_sil_weight"},
    "Wav2Vec2Config": {"adp_num", "adp_dim", "adp_act_fn", "adp_trf_idx"},
    "Wav2Vec2CtcConfig": {
        *("adp_num", "adp_dim", "adp_act_fn", "adp_trf_idx", "layer_type", "layer_decay", "freeze_regex"),
        *("drop_path", "update_alibi", "zero_mask", "load_ema", "conv_feature_layers", "encoder_embed_dim"),
    },
    "AudioPretrainingConfig": {
        *("multi_corpus_keys", "multi_corpus_sampling_weights", "rebuild_batches", "precompute_mask_config"),
        *("post_save_script", "subsample", "seed", "precompute_mask_indices", "inferred_w2v_config"),
    },
}
_FIELDS_OF_ONE_FAIRSEQ["AudioFinetuningConfig"] = {
    *_FIELDS_OF_ONE_FAIRSEQ["AudioPretrainingConfig"],
    "target_dictionary",
}


def shared_fields(config_class: type) -> frozenset[str]:
    """Names of the fields of one of fairseq's configuration dataclasses that both supported fairseqs know."""
    of_one = _FIELDS_OF_ONE_FAIRSEQ.get(config_class.__name__, set())
    return frozenset(field.name for field in dataclasses.fields(config_class)) - of_one
