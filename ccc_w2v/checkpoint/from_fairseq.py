"""A fairseq checkpoint of another origin -> a plain state: the original ccc-wav2vec 2.0, public wav2vec 2.0, old ones.

Every file is read with weights_only=True. Settings that neither supported fairseq knows are listed and left out.
"""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.checkpoint.dictionary import held_dictionary, read_dictionary
from ccc_w2v.checkpoint.plain import FINETUNED_MODEL, PRETRAINED_MODELS, load_plain, to_plain
from ccc_w2v.checkpoint.read import load_untrusted
from ccc_w2v.checkpoint.settings import in_sections, sections_within, unknown_settings
from ccc_w2v.compat import known_fields
from ccc_w2v.errors import InputError

ORIGINAL_CCC = "original ccc-wav2vec 2.0"
OURS = "ccc_w2v"
PUBLIC = "fairseq wav2vec 2.0"

# What the original implementation keeps beside fairseq's settings: in the model, and in the criterion.
_ORIGINAL_MODEL = ("cluster_factor", "scale_factor")
_ORIGINAL_WEIGHTS = "cc_weights"


@dataclass(frozen=True)
class Imported:
    """A plain state, what it came from, settings of its file that are unknown here, and tensors that it lacks."""

    plain: dict[str, Any]
    kind: str
    unknown: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def import_fairseq(path: str | Path, dictionary: str | Path | None = None) -> Imported:
    """Read a checkpoint file and return its plain state, built once by fairseq's classes to see that all fits.

    ``dictionary``: the dict.<labels>.txt of a fine-tuned checkpoint that does not hold its own.

    Raises InputError for a file that is unreadable, that pickles code, of another kind of model, without a dictionary,
    or whose tensors or vocabulary do not fit its settings.
    """
    state = load_untrusted(path)
    try:
        flat = state["args"] if isinstance(state.get("args"), Namespace) else None
        cfg = sections_within(in_sections(flat) if flat else state["cfg"])
        _check_shape(cfg, state["model"])
        name = cfg["model"].get("_name")
        if name not in (*PRETRAINED_MODELS, FINETUNED_MODEL):
            raise InputError(f"model {name!r} cannot be imported; expected a wav2vec 2.0, pre-trained or fine-tuned")
        base = cfg["model"].get("w2v_args") if name == FINETUNED_MODEL else cfg
        if isinstance(base, dict):
            _check_shape(base, state["model"])
        else:
            raise InputError("the fine-tuned checkpoint does not hold its base model's settings (model.w2v_args)")
        unknown, origin = unknown_settings(flat) if flat else sorted(_unknown(cfg)), _origin(state, base)
        objective = _objective(base) if origin == ORIGINAL_CCC else {}
        state = {**state, "args": None, "cfg": cfg}
        if name == FINETUNED_MODEL:
            state["task_state"] = {"target_dictionary": _dictionary(state, dictionary)}
        plain = to_plain(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error):.100}"
        raise InputError(f"{path}: its settings are not whole ({reason})") from error
    plain["ccc_export"].setdefault("objective", {}).update(objective)
    stage = "fine-tuned" if name == FINETUNED_MODEL else "pre-training"
    kind = f"{origin} checkpoint, {stage}"
    plain["ccc_export"].setdefault("imported_from", f"{Path(path).name}, {kind}")
    load_plain(plain, path)
    return Imported(plain, kind, unknown)


def _check_shape(cfg: Any, tensors: Any) -> None:
    """Raise InputError where a file that was read safely does not hold sections of settings and tensors by name."""
    sections = {"model": (dict,), "task": (dict,), "criterion": (dict, type(None))}
    if not isinstance(cfg, dict) or not all(isinstance(cfg.get(name), kinds) for name, kinds in sections.items()):
        raise InputError(f"its settings are not fairseq's; expected sections {', '.join(sections)}")
    if not isinstance(tensors, dict) or not all(map(torch.is_tensor, tensors.values())):
        raise InputError("its 'model' is not a table of tensors by name")


def _origin(state: dict[str, Any], base: dict[str, Any]) -> str:
    if base["model"].get("_name") == "ccc_wav2vec2" or "ccc_export" in state:
        return OURS
    original = set(_ORIGINAL_MODEL) & base["model"].keys() or _ORIGINAL_WEIGHTS in (base.get("criterion") or {})
    return ORIGINAL_CCC if original else PUBLIC


def _objective(base: dict[str, Any]) -> dict[str, Any]:
    """Return the original's objective by the names of our criterion, as far as its file holds it."""
    objective = {name: base["model"][name] for name in _ORIGINAL_MODEL if name in base["model"]}
    if "scale_factor" in objective:
        objective["near_positives"] = "scale_similarity"
    weights = (base.get("criterion") or {}).get(_ORIGINAL_WEIGHTS)
    if weights:
        objective.update(zip(("alpha", "beta", "gamma"), map(float, weights), strict=True))
    return objective


def _sections(cfg: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Each section that describes model and training, with its place and the dataclass that it fills."""
    from fairseq.criterions.ctc import CtcCriterionConfig
    from fairseq.criterions.wav2vec_criterion import Wav2VecCriterionConfig
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
    from fairseq.tasks.audio_finetuning import AudioFinetuningConfig
    from fairseq.tasks.audio_pretraining import AudioPretrainingConfig

    classes = {"model": Wav2Vec2Config, "task": AudioPretrainingConfig, "criterion": Wav2VecCriterionConfig}
    base, place = cfg, ""
    if cfg["model"]["_name"] == FINETUNED_MODEL:
        tuned = {"model": Wav2Vec2CtcConfig, "task": AudioFinetuningConfig, "criterion": CtcCriterionConfig}
        yield from ((name, cfg[name], tuned[name]) for name in tuned if cfg.get(name))
        base, place = cfg["model"]["w2v_args"], "model.w2v_args."
    yield from ((f"{place}{name}", base[name], classes[name]) for name in classes if base.get(name))


def _unknown(cfg: dict[str, Any]) -> Iterator[str]:
    from fairseq.dataclass.configs import FairseqConfig

    known_sections = {field.name for field in dataclasses.fields(FairseqConfig)} | {"_name", "job_logging_cfg"}
    yield from (name for name in cfg if name not in known_sections)
    for place, section, config_class in _sections(cfg):
        known = known_fields(config_class) | {"_name", *_ORIGINAL_MODEL, _ORIGINAL_WEIGHTS}
        if not _is_ours(section):
            yield from (f"{place}.{name}" for name in section if name not in known)


def _is_ours(section: dict[str, Any]) -> bool:
    return str(section.get("_name")) in ("ccc_wav2vec2", "ccc_pretraining", "ccc")


def _dictionary(state: dict[str, Any], path: str | Path | None) -> Any:
    dictionary = held_dictionary(state)
    if dictionary is not None:
        return dictionary
    if path is None:
        raise InputError("holds no dictionary; give the dict.ltr.txt of its fine-tuning with --dictionary")
    return read_dictionary(path)
