"""A recipe's YAML as fairseq-hydra-train composes it, and what it asks for: views, batch, length, parameters."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import ccc_w2v
from ccc_w2v.capacity import least_memory
from ccc_w2v.compat import hydra_composer, setting, silence_debugging
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.planning.plan import Recipe

# Fine-tuning takes its size from a checkpoint, which a plan may be made before: then the choice of size, or the
# recipe's name, tells.
BASE_PARAMETERS, LARGE_PARAMETERS = 95_000_000, 317_000_000
LARGE = {
    **{"encoder_layers": 24, "encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16},
    "final_dim": 768,
}
SIZES = (*LARGE, "conv_feature_layers")
# The longest utterance of LibriSpeech (dev-other): what fine-tuning, which does not crop, must take whole [s].
LONGEST_UTTERANCE = 35.2


def compose_config(path: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose a YAML with overrides, as fairseq-hydra-train does, with fairseq's and our dataclasses' defaults below.

    Raises InputError for a file that is not there and for what hydra refuses.
    """
    from fairseq.dataclass.initialize import add_defaults

    cfg = _composed(Path(path).resolve(), overrides)
    with _hydra_errors(path):
        add_defaults(cfg)
    return cfg


def _composed(path: Path, overrides: Sequence[str]) -> DictConfig:
    """Return what hydra makes of a YAML and overrides alone: what either leaves open as ??? is still so."""
    from fairseq.dataclass.initialize import hydra_init

    if not path.is_file():
        available = ", ".join(sorted(config.stem for config in path.parent.glob("*.yaml"))) or "none"
        raise InputError(f"{path}: no such configuration; in {path.parent} there are: {available}")
    ccc_w2v.register()
    silence_debugging()
    hydra_init(path.stem)
    compose, initialize = hydra_composer()
    GlobalHydra.instance().clear()
    with _hydra_errors(path), warnings.catch_warnings():
        # hydra 1.3 says that fairseq's way of checking a YAML is deprecated, and asks for a version.
        warnings.simplefilter("ignore")
        with initialize(config_dir=str(path.parent)):
            return compose(config_name=path.stem, overrides=list(overrides))


@contextmanager
def _hydra_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"{path}: {' '.join(str(error).split()[:40])}") from error


def missing_settings(path: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    """Return the settings of task and model that a configuration leaves to the user, as "task.data"."""
    written, filled = _composed(Path(path).resolve(), overrides), compose_config(path, overrides)
    # fairseq's defaults take the place of ??? where there is one: noise_manifest: ??? ends as none.
    return [
        f"{section}.{name}"
        for section in ("task", "model")
        for name in filled[section]
        if OmegaConf.is_missing(filled[section], name) or OmegaConf.is_missing(written[section], name)
    ]


def build_model(cfg: DictConfig) -> nn.Module:
    """Build a configuration's model without memory for its weights.

    A fine-tuning needs its dictionary in task.data, and model.w2v_args in place of the checkpoint. Raises InputError
    for sizes that fairseq asserts not to be.
    """
    from fairseq import tasks

    task_cfg = cfg.task
    if OmegaConf.is_missing(task_cfg, "data"):
        # It does not matter for the model, and may not be known yet.
        task_cfg = OmegaConf.merge(task_cfg, {"data": "."})
    task = tasks.setup_task(task_cfg)
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of fairseq's weight_norm
        try:
            return task.build_model(cfg.model)
        except AssertionError as error:
            raise InputError(f"fairseq refuses this model: {error}") from error


def read_recipe(
    path: str | Path,
    overrides: Sequence[str] = (),
    read_checkpoint: Callable[[str], dict[str, Any]] | None = None,
    manifest: str | Path | None = None,
) -> Recipe:
    """Say what a configuration asks for. Raises InputError for one without max_tokens, max_update or lr.

    ``read_checkpoint`` returns the content of the checkpoint that is fine-tuned, which tells its size; without it, or
    where the checkpoint is not there yet, size=large or the recipe's name does. ``manifest`` tells how long the longest
    recording is, where the configuration does not crop.
    """
    cfg = compose_config(path, overrides)
    pretraining = cfg.task._name in ("ccc_pretraining", "audio_pretraining")
    if not pretraining and cfg.task._name != "audio_finetuning":
        raise InputError(f"{path}: task {cfg.task._name!r} is neither pre-training nor fine-tuning of wav2vec 2.0")
    for name, value in (("dataset.max_tokens", cfg.dataset.max_tokens), ("max_update", cfg.optimization.max_update)):
        if not value:
            raise InputError(f"{path}: needs {name}, which the plan is made of")
    # What chooses a file of a group, amount=10h, belongs to the recipe's name; a key of the configuration has a dot.
    choices = [word for word in overrides if "." not in word.partition("=")[0]]
    half = cfg.common.fp16 or cfg.common.bf16
    if pretraining:
        model = build_model(cfg)
        parameters = _count(model)
    else:
        model, parameters = _finetuned(cfg, [Path(path).stem, *choices], read_checkpoint)
    longest = _longest(cfg, manifest)
    return Recipe(
        name=" ".join([Path(path).stem, *choices]),
        views=2 if cfg.task._name == "ccc_pretraining" else 1,
        parameters=parameters,
        precision="fp16" if half else "fp32",
        max_tokens=cfg.dataset.max_tokens,
        longest=longest,
        crop_memory=least_memory(model, longest, training=True, value_bytes=2 if half else 4, on_cpu=False) / 2**30,
        shortest=cfg.task.min_sample_size or 0,
        gpus=cfg.distributed_training.distributed_world_size,
        update_freq=cfg.optimization.update_freq[0],
        updates=cfg.optimization.max_update,
        lr=cfg.optimization.lr[0],
        warmup_updates=cfg.lr_scheduler.warmup_updates if pretraining else None,
        sample_rate=cfg.task.sample_rate,
        checkpoints=_kept(cfg.checkpoint, cfg.optimization.max_update),
        log_interval=cfg.common.log_interval,
        pretraining=pretraining,
    )


def filled_share(manifest: str | Path, recipe: Recipe, max_tokens: int) -> float:
    """Return what share of max_tokens the batches of a manifest hold on average, cut as fairseq cuts them.

    Pre-training crops all utterances of a batch to its shortest; fine-tuning takes them whole. Raises InputError for a
    manifest that cannot be read or has nothing that is long enough.
    """
    from fairseq.data.data_utils import batch_by_size

    sizes = read_manifest(manifest).samples
    sizes = np.sort(sizes[sizes >= recipe.shortest])[::-1]
    if not len(sizes):
        raise InputError(f"{manifest}: no utterance has task.min_sample_size={recipe.shortest} samples")
    if recipe.pretraining:
        sizes = np.minimum(sizes, recipe.longest)
    taken = np.ascontiguousarray(sizes, dtype=np.int64)
    batches = batch_by_size(np.arange(len(taken)), taken.__getitem__, taken, max_tokens, required_batch_size_multiple=1)
    samples = sum(len(batch) * taken[batch].min() if recipe.pretraining else taken[batch].sum() for batch in batches)
    return float(samples / (len(batches) * max_tokens))


def _longest(cfg: DictConfig, manifest: str | Path | None) -> int:
    """Return the samples of the longest crop, without max_sample_size those of the longest recording."""
    if cfg.task.max_sample_size:
        return int(cfg.task.max_sample_size)
    usual = min(cfg.dataset.max_tokens, int(LONGEST_UTTERANCE * cfg.task.sample_rate))
    return max(usual, int(read_manifest(manifest).samples.max())) if manifest else usual


def _finetuned(
    cfg: DictConfig, names: Sequence[str], read_checkpoint: Callable[[str], dict[str, Any]] | None
) -> tuple[nn.Module, int]:
    """Return the network that is fine-tuned, without memory for its weights, and its number of parameters."""
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model

    path = OmegaConf.select(cfg, "model.w2v_path", throw_on_missing=False)
    large = any(name.removeprefix("size=").startswith("large") for name in names)
    sizes, parameters = (LARGE, LARGE_PARAMETERS) if large else ({}, BASE_PARAMETERS)
    if read_checkpoint and path and Path(path).is_file():
        state = read_checkpoint(path)
        # fairseq's older checkpoints hold one flat Namespace.
        settings = (state.get("cfg") or {}).get("model") or vars(state.get("args") or argparse.Namespace())
        sizes = {key: settings[key] for key in SIZES if settings.get(key)}
        parameters = sum(tensor.numel() for tensor in state["model"].values())
    tuned = {
        "feature_grad_mult": cfg.model.feature_grad_mult,
        "encoder_layerdrop": cfg.model.layerdrop,
        "checkpoint_activations": bool(setting(cfg, "model.checkpoint_activations")),
    }
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return Wav2Vec2Model(Wav2Vec2Config(**{**sizes, **tuned})), parameters


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _kept(checkpoint: Any, updates: int) -> int:
    """Checkpoints on disk at the end: last, best, and those of every so many updates that fairseq's rules keep."""
    interval = checkpoint.save_interval_updates
    made = updates // interval if interval else 0
    kept = made if checkpoint.keep_interval_updates < 0 else min(made, checkpoint.keep_interval_updates)
    return 2 + kept
