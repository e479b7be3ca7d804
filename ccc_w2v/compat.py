"""The only file that knows that fairseq, torch or Python versions differ.

Two stacks are supported by one code base: fairseq 0.12.2 (Python 3.10) and fairseq-fixed 0.12.3.1 (3.11 to 3.13),
both with torch 2.11. Each function below fixes one problem and says which; `prepare()` applies those that a training
process needs and is called once, when the plugin registers itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import importlib
import inspect
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed
from omegaconf import DictConfig, OmegaConf

from ccc_w2v.compat_half import check_half_convolutions
from ccc_w2v.errors import InputError, one_line_errors


def prepare() -> None:
    """Mend what stops fairseq's own trainer on torch 2.11 and on a CPU; harmless when called again."""
    allow_fairseq_checkpoints()
    send_objects_to_ranks()
    train_on_cpu_processes()
    name_unknown_settings()
    check_half_convolutions()
    keep_task_state()
    look_for_validation_sets_in_folders()
    draw_masks_by_the_trainers_seed()
    drop_layers_by_the_trainers_seed()
    start_averages_from_checkpoints()


def allow_fairseq_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)``, torch's default since 2.6, read what fairseq writes.

    fairseq pickles a Dictionary into fine-tuned checkpoints, an argparse.Namespace into old ones and numpy's numbers
    among the metrics. All are plain data: unpickling them runs no code of the file's choosing.
    """
    from fairseq.data.dictionary import Dictionary

    dtypes: list[Any] = [np.dtype, *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64))]
    scalar: Any = np.float64(0).__reduce__()[0]
    # numpy 2 moved it; files of numpy 1 hold the old name.
    torch.serialization.add_safe_globals(
        [Dictionary, argparse.Namespace, *dtypes, scalar, (scalar, "numpy.core.multiarray.scalar")]
    )


def hydra_composer() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return hydra's compose and initialize_config_dir: hydra 1.0 calls them experimental, 1.3 warns of that name."""
    try:
        hydra: Any = importlib.import_module("hydra")
        return hydra.compose, hydra.initialize_config_dir
    except AttributeError:
        hydra = importlib.import_module("hydra.experimental")
        return hydra.compose, hydra.initialize_config_dir


def setting(cfg: Any, path: str) -> Any:
    """Return a setting by its path, "model._name"; None where there is none, as OmegaConf.select does in omegaconf 2.3.

    That of 2.0 fails an assertion on its way through a section that is empty.
    """
    for name in path.split("."):
        if not isinstance(cfg, DictConfig) or name not in cfg:
            return None
        cfg = cfg[name]
    return cfg


def silence_debugging() -> None:
    """Undo that importing fairseq-fixed turns on every library's debug messages: a page for each file that is sent."""
    root = logging.getLogger()
    if root.level == logging.DEBUG:
        root.setLevel(logging.WARNING)


def flashlight_text() -> SimpleNamespace:
    """Return the names of flashlight-text that a beam search needs: the kept-up search that installs on most Pythons.

    flashlight-text 0.0.7 has wheels for Python 3.10 to 3.12; on 3.13 there is no beam search, only greedy decoding.
    Raises InputError where it, or KenLM beside it, is not installed.
    """
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder.kenlm import KenLM
    except ImportError as error:
        raise InputError(
            "beam search needs flashlight-text and kenlm: pip install 'ccc-w2v[lm]' on Python 3.10 to 3.12 (3.13 has "
            "no wheel); or decode greedily, without --beam"
        ) from error
    return SimpleNamespace(**{**vars(decoder), **vars(dictionary), "KenLM": KenLM})


def send_objects_to_ranks() -> None:
    """Let the first rank hand a checkpoint to the others, with torch's own call instead of fairseq's.

    fairseq reads what it has sent with torch.load, which since torch 2.6 refuses the omegaconf settings among it: no
    training of several processes could resume. Rank 0 has read the file itself with weights_only=True.
    """
    from fairseq.distributed import utils as distributed

    def broadcast_object(obj: Any, src_rank: int, group: Any, dist_device: torch.device) -> Any:
        sent = [obj]
        torch.distributed.broadcast_object_list(sent, src_rank, group, dist_device)
        return sent[0]

    distributed._broadcast_object_slow = broadcast_object


def train_on_cpu_processes() -> None:
    """Make fairseq's distributed trainer work on CPU processes (gloo), where it takes CUDA for granted.

    all_gather_list allocates its buffers on the GPU unless they exist already, torch's DDP is given a device id,
    and spawning counts GPUs. With torchrun, `distributed_no_spawn: true` and these two patches it runs.
    """
    if torch.cuda.is_available():
        return
    from fairseq.distributed import utils as distributed

    gather = distributed.all_gather_list
    max_size = 16384  # the default of all_gather_list
    # Called again once the processes have met: before, nobody knows how many there are.
    world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if not hasattr(gather, "_buffer") or gather._buffer.numel() < max_size * world_size:
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


def keep_task_state() -> None:
    """Make fairseq 0.12.2 save and restore what a task gives, as fairseq-fixed does.

    Both write `task_state` into a checkpoint and neither reads it when a training resumes. fairseq-fixed has
    `task.get_checkpoint_dict` and `task.set_checkpoint_dict` for that; 0.12.2 is given the same two calls here.
    """
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    if "get_checkpoint_dict" in checkpoint_utils.save_checkpoint.__code__.co_names:
        return
    if hasattr(Trainer.save_checkpoint, "__wrapped__"):
        return
    save, load = Trainer.save_checkpoint, checkpoint_utils.load_checkpoint

    @functools.wraps(save)
    def save_checkpoint(self: Any, filename: str, extra_state: dict[str, Any]) -> Any:
        task_state = self.task.get_checkpoint_dict() if hasattr(self.task, "get_checkpoint_dict") else {}
        return save(self, filename, {**extra_state, **task_state})

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        extra_state, epoch_iterator = load(cfg, trainer, **passthrough)
        task_state = (extra_state or {}).get(type(trainer.task).__name__)
        resumes = not (cfg.reset_dataloader or starts_from_another(cfg, trainer))
        if task_state and resumes and hasattr(trainer.task, "set_checkpoint_dict"):
            trainer.task.set_checkpoint_dict(task_state)
        return extra_state, epoch_iterator

    Trainer.save_checkpoint, checkpoint_utils.load_checkpoint = save_checkpoint, load_checkpoint


def starts_from_another(cfg: Any, trainer: Any) -> bool:
    """Tell whether what fairseq has loaded is another run's checkpoint, whose optimiser and place it has left out."""
    return cfg.finetune_from_model is not None and trainer.get_num_updates() == 0


def draw_masks_by_the_trainers_seed() -> None:
    """Let fairseq's wav2vec 2.0 draw its masks from torch's generator, which the trainer seeds at every update.

    fairseq-fixed draws them from the operating system's entropy, so that a fine-tuning ends elsewhere each time,
    whatever its seed; 0.12.2 from numpy's generator, which a resumed training finds in another state.
    """
    from fairseq.data.data_utils import numpy_seed
    from fairseq.models.wav2vec import wav2vec2

    original = wav2vec2.compute_mask_indices
    if hasattr(original, "__wrapped__"):
        return
    seeded = {"seed", "epoch", "indices"} <= set(inspect.signature(original).parameters)

    @functools.wraps(original)
    def compute_mask_indices(shape: tuple[int, int], *args: Any, **kwargs: Any) -> Any:
        drawn = int(torch.randint(2**31, (1,)))
        if seeded and kwargs.get("seed") is None:
            kwargs |= {"seed": drawn, "epoch": 0, "indices": torch.arange(shape[0])}
        with numpy_seed(drawn):
            return original(shape, *args, **kwargs)

    wav2vec2.compute_mask_indices = compute_mask_indices


def drop_layers_by_the_trainers_seed() -> None:
    """Let fairseq's trainer seed numpy's generator at every update, as it seeds torch's.

    fairseq's encoder draws from it which layers to leave out (layerdrop), so that a fine-tuning that was stopped and
    goes on would leave out others than one that was not stopped.
    """
    from fairseq.trainer import Trainer

    original = Trainer._set_seed
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def set_seed(trainer: Any) -> None:
        original(trainer)
        np.random.seed((trainer.cfg.common.seed + trainer.get_num_updates()) % 2**32)

    Trainer._set_seed = set_seed


def start_averages_from_checkpoints() -> None:
    """Let an average of the model (ema.store_ema) start from a checkpoint that has none, at that checkpoint's weights.

    fairseq means to, but has dropped the weights from what it has read by then, and fails with KeyError: 'model'.
    """
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    original = Trainer.load_checkpoint
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def load_checkpoint(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        read = checkpoint_utils.load_checkpoint_to_cpu

        def with_average(*places: Any, **options: Any) -> Any:
            state = read(*places, **options)
            state["extra_state"].setdefault("ema", state["model"])
            return state

        if not trainer.cfg.ema.store_ema:
            return original(trainer, *args, **kwargs)
        checkpoint_utils.load_checkpoint_to_cpu = with_average
        try:
            return original(trainer, *args, **kwargs)
        finally:
            checkpoint_utils.load_checkpoint_to_cpu = read

    Trainer.load_checkpoint = load_checkpoint


def look_for_validation_sets_in_folders() -> None:
    """Let fairseq look for forgotten validation sets, valid1.tsv, where task.data is a folder of this machine alone.

    It lists task.data, and ends with a traceback where that names shards, an address or a Hub data set.
    """
    from fairseq.data import data_utils

    find = data_utils._find_extra_valid_paths
    if hasattr(find, "__wrapped__"):
        return

    @functools.wraps(find)
    def find_extra_valid_paths(dataset_path: str) -> set:
        return find(dataset_path) if os.path.isdir(dataset_path) else set()

    data_utils._find_extra_valid_paths = find_extra_valid_paths


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


def known_fields(config_class: type) -> frozenset[str]:
    """Names of the fields of one of fairseq's configuration dataclasses that either supported fairseq knows."""
    return shared_fields(config_class) | _FIELDS_OF_ONE_FAIRSEQ.get(config_class.__name__, set())


def field_defaults(config_class: type) -> dict[str, Any]:
    """Return a configuration dataclass's defaults as plain data, less those that only a whole run can resolve."""
    values: Any = OmegaConf.to_container(OmegaConf.structured(config_class), resolve=False, enum_to_str=True)
    return {key: value for key, value in values.items() if not str(value).startswith("${")}
