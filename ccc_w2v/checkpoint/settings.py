"""The settings of an old fairseq checkpoint, one flat argparse.Namespace, in the sections that fairseq has today.

fairseq's own converter composes them with hydra and fails on the installed one wherever a value is None.
"""

from __future__ import annotations

import ast
from argparse import Namespace
from dataclasses import fields, is_dataclass
from typing import Any

from ccc_w2v.checkpoint.plain import FINETUNED_MODEL
from ccc_w2v.compat import field_defaults, known_fields
from ccc_w2v.errors import InputError

_ARCHITECTURES = ("wav2vec2", FINETUNED_MODEL)
_TASKS = ("audio_pretraining", "speech_pretraining", "audio_finetuning")


def in_sections(args: Namespace) -> dict[str, Any]:
    """Return the configuration, as plain data, that the flat settings ``args`` stand for.

    Raises InputError for a model or task that is no wav2vec 2.0.
    """
    from fairseq.dataclass.configs import CommonConfig, DatasetConfig, DistributedTrainingConfig, OptimizationConfig
    from fairseq.optim.adam import FairseqAdamConfig

    cfg = {
        "common": _section(args, CommonConfig),
        "dataset": _section(args, DatasetConfig),
        "distributed_training": _section(args, DistributedTrainingConfig),
        "optimization": _section(args, OptimizationConfig),
        "optimizer": {"_name": getattr(args, "optimizer", None), **_section(args, FairseqAdamConfig)},
        "lr_scheduler": {"_name": getattr(args, "lr_scheduler", None)},
    }
    finetuned = args.arch == FINETUNED_MODEL
    names = (FINETUNED_MODEL, "audio_finetuning", "ctc") if finetuned else ("wav2vec2", "audio_pretraining", "wav2vec")
    for section, config_class, name in zip(("model", "task", "criterion"), _classes(args), names, strict=True):
        cfg[section] = {**_section(args, config_class), "_name": name}
    if finetuned:
        cfg["model"]["w2v_args"] = getattr(args, "w2v_args", None)
    return cfg


def _classes(args: Namespace) -> tuple[type, type, type]:
    """Return the dataclasses of its model, task and criterion."""
    from fairseq.criterions.ctc import CtcCriterionConfig
    from fairseq.criterions.wav2vec_criterion import Wav2VecCriterionConfig
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
    from fairseq.tasks.audio_finetuning import AudioFinetuningConfig
    from fairseq.tasks.audio_pretraining import AudioPretrainingConfig

    architecture, task = getattr(args, "arch", None), getattr(args, "task", None)
    if architecture not in _ARCHITECTURES or task not in _TASKS:
        raise InputError(
            f"model {architecture!r} of task {task!r} cannot be imported; expected {' or '.join(_ARCHITECTURES)} of "
            f"{', '.join(_TASKS)}"
        )
    if architecture == FINETUNED_MODEL:
        return Wav2Vec2CtcConfig, AudioFinetuningConfig, CtcCriterionConfig
    return Wav2Vec2Config, AudioPretrainingConfig, Wav2VecCriterionConfig


def unknown_settings(args: Namespace) -> list[str]:
    """Name the flat settings that no part of today's fairseq knows, of those that this model and run consist of."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.registry import REGISTRIES

    sections = [field.default for field in fields(FairseqConfig)]
    parts = [section if isinstance(section, type) else type(section) for section in sections]
    parts += [registry["dataclass_registry"].get(getattr(args, name, None)) for name, registry in REGISTRIES.items()]
    known = {"arch", "task", "w2v_args", *REGISTRIES}
    known.update(*(known_fields(part) for part in [*parts, *_classes(args)] if is_dataclass(part)))
    return sorted(vars(args).keys() - known)


def sections_within(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return ``cfg`` with the base model's settings in sections too, where they are still flat."""
    model = cfg.get("model") if isinstance(cfg, dict) else None
    base = model.get("w2v_args") if isinstance(model, dict) else None
    if isinstance(base, Namespace):
        return {**cfg, "model": {**cfg["model"], "w2v_args": {**in_sections(base), "criterion": None}}}
    return cfg


def _section(args: Namespace, config_class: type) -> dict[str, Any]:
    types = {field.name: field.type for field in fields(config_class)}
    known = {name: value for name, value in vars(args).items() if name in known_fields(config_class)}
    return {
        **field_defaults(config_class),
        **{name: _value(value, types.get(name, str)) for name, value in known.items()},
    }


def _value(value: Any, expected: Any) -> Any:
    """Read what an old command line kept as text, "(2, 0.5, 0.999995)", without running it as code."""
    if isinstance(value, str) and expected not in (str, str | None):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            return value
    return list(value) if isinstance(value, tuple) else value
