"""A checkpoint of ours -> an ordinary fairseq wav2vec2 checkpoint: the same tensors, no plugin needed to load it.

The configuration keeps what describes the model and the training (task, model, criterion, optimisation), reduced to
fields that fairseq 0.12.2 and fairseq-fixed both know. What describes the machine goes back to fairseq's defaults, so
that no dead path stays. Optimiser, iterator and task states are dropped.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.checkpoint.dictionary import dictionary_data, dictionary_text, load_dictionary
from ccc_w2v.checkpoint.provenance import provenance
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.checkpoint.sizes import check_sizes
from ccc_w2v.checkpoint.teacher import with_weights
from ccc_w2v.checkpoint.untrusted import plain_settings
from ccc_w2v.compat import field_defaults, shared_fields
from ccc_w2v.errors import InputError
from ccc_w2v.files import refuse_existing, whole

# fairseq wants a string here; relative to where it runs, it is also where a fine-tuned model looks for its dictionary.
DATA_PLACEHOLDER = "."
PRETRAINED_MODELS = ("ccc_wav2vec2", "wav2vec2")
FINETUNED_MODEL = "wav2vec_ctc"


def export_plain(
    checkpoint: str | Path, out: str | Path, *, overwrite: bool = False, half: bool = False, weights: str = "model"
) -> list[Path]:
    """Write ``checkpoint`` to ``out`` for unmodified fairseq; returns the files written.

    ``half`` rounds the weights to float16, for half the size: whoever loads them has a float32 model again. ``weights``
    says which the checkpoint's are taken, "model" or "teacher" (see checkpoint/teacher.py).

    A fine-tuned model's dictionary is written beside it as dict.<labels>.txt: fairseq loads the model with
    ``load_model_ensemble_and_task([out], arg_overrides={"data": <that folder>})``.

    Raises InputError for a checkpoint that is unreadable, incomplete or of another model, and for a target that exists
    while ``overwrite`` is false. A target appears whole or not at all.
    """
    out = Path(out)
    refuse_existing(out, overwrite)
    plain = to_plain(with_weights(load_checkpoint(checkpoint), weights))
    load_plain(plain, checkpoint)
    if half:
        plain["model"] = {name: tensor.half() for name, tensor in plain["model"].items()}
    return write_plain(plain, out, overwrite=overwrite)


def write_plain(plain: dict[str, Any], out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a plain state, and beside it the dictionary of a fine-tuned one; returns the files written."""
    with ExitStack() as targets:
        written = [out]
        if "ccc_dictionary" in plain:
            written.append(dictionary := out.parent / f"dict.{plain['cfg']['task']['labels']}.txt")
            text = dictionary_text(plain["ccc_dictionary"])
            if not (dictionary.is_file() and dictionary.read_text(encoding="utf-8") == text):
                beside = targets.enter_context(whole(dictionary, overwrite=overwrite))
                beside.write_text(text, encoding="utf-8")
        partial = targets.enter_context(whole(out, overwrite=overwrite))
        # Through a file of ours: torch's own hides why the system refused a write.
        with open(partial, "wb") as file:
            torch.save(plain, file)
    return written


def to_plain(state: dict[str, Any]) -> dict[str, Any]:
    """Turn a checkpoint's state into one of unmodified fairseq: plain data and tensors, as torch.save takes it.

    Beside fairseq's keys it holds ``ccc_export`` (see provenance) and, fine-tuned, ``ccc_dictionary``: the symbols and
    counts in fairseq's order, special symbols included. Raises InputError for a model that is no wav2vec 2.0.
    """
    cfg = _plain_cfg(state["cfg"])
    try:
        return _plain(state, cfg)
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"its settings are not whole, {type(error).__name__}: {str(error):.100}") from error


def _plain_cfg(cfg: Any) -> dict[str, Any]:
    """Return a configuration as inert plain data, whoever made it."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(cfg):
        cfg = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    plain = plain_settings(cfg)
    if not isinstance(plain, dict) or not all(isinstance(plain.get(name), dict) for name in ("model", "task")):
        raise InputError("its settings are not fairseq's; expected sections model and task")
    return plain


def _plain(state: dict[str, Any], cfg: dict[str, Any]) -> dict[str, Any]:
    name = cfg["model"].get("_name")
    if name not in (*PRETRAINED_MODELS, FINETUNED_MODEL):
        raise InputError(
            f"model {name!r} cannot be exported; expected {', '.join(PRETRAINED_MODELS)} or {FINETUNED_MODEL}"
        )
    last = dict((state.get("optimizer_history") or [{}])[-1])
    plain: dict[str, Any] = {
        "args": None,
        "cfg": _finetuned_cfg(cfg) if name == FINETUNED_MODEL else _pretrained_cfg(cfg),
        "model": dict(state["model"]),
        "criterion": None,
        # fairseq sets the quantizer's temperature from num_updates and asks for the other keys.
        "optimizer_history": [
            {
                "criterion_name": last.get("criterion_name"),
                "optimizer_name": last.get("optimizer_name"),
                "lr_scheduler_state": {},
                "num_updates": int(last.get("num_updates", 0)),
            }
        ],
        "extra_state": {},
        "ccc_export": provenance(state, cfg),
    }
    if name == FINETUNED_MODEL:
        plain["ccc_dictionary"] = dictionary_data(state)
        _check_vocabulary(plain)
    return plain


def _check_vocabulary(plain: dict[str, Any]) -> None:
    symbols, projection = len(plain["ccc_dictionary"]["symbols"]), plain["model"].get("w2v_encoder.proj.weight")
    if projection is not None and len(projection) != symbols:
        raise InputError(
            f"the vocabulary does not fit: the dictionary has {symbols} symbols, the output layer {len(projection)}; "
            "use the dictionary of the fine-tuning"
        )


def load_plain(plain: dict[str, Any], source: str | Path) -> tuple[Any, Any]:
    """Build the model and its task from a plain state with fairseq's own classes; every tensor must fit.

    ``source`` is the file it came from, for messages. Raises InputError for a tensor that is missing, left over or of
    another shape.
    """
    from omegaconf import OmegaConf

    state = {**plain, "cfg": OmegaConf.create(plain["cfg"])}
    if "ccc_dictionary" in plain:
        state["task_state"] = {"target_dictionary": load_dictionary(plain["ccc_dictionary"])}
    return build_model(source, state)


def build_model(source: str | Path, state: dict[str, Any]) -> tuple[Any, Any]:
    """Build fairseq's model (in eval mode) and task from a checkpoint's state; ``source`` is its path, for messages.

    What fairseq gets is inert (see plain_settings), and no larger than the tensors are. Raises InputError where the
    settings are not inert, describe no model, or do not fit the tensors.
    """
    from fairseq.checkpoint_utils import load_model_ensemble_and_task
    from omegaconf import OmegaConf

    try:
        cfg = _plain_cfg(state["cfg"])
        base = cfg["model"].get("w2v_args") or cfg
        check_sizes(base["model"], state["model"])
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    state = {**state, "cfg": OmegaConf.create(cfg)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # fairseq's use of torch: nothing a user can fix
            models, _, task = load_model_ensemble_and_task([str(source)], state=state)
    except Exception as error:  # whatever fairseq, omegaconf and torch make of settings that describe no model
        reason = " ".join(str(error).split())
        kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
        raise InputError(f"{source}: the tensors do not fit the configuration: {kind}{reason:.300}") from error
    return models[0].eval(), task


def receptive_field(layers: Iterable[tuple[int, int, int]]) -> int:
    """Return the samples that convolutions (dim, kernel, stride) need to give one frame."""
    samples, step = 1, 1
    for _, kernel, stride in layers:
        samples += (kernel - 1) * step
        step *= stride
    return samples


def _pretrained_cfg(cfg: dict[str, Any]) -> dict[str, Any]:
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
    from fairseq.tasks.audio_pretraining import AudioPretrainingConfig

    _refuse_layer_type(cfg["model"], ("transformer", "conformer"))
    model = _section(cfg["model"], Wav2Vec2Config, _name="wav2vec2")
    task = _section(cfg["task"], AudioPretrainingConfig, _name="audio_pretraining", data=DATA_PLACEHOLDER)
    return {**_run_cfg(cfg), "model": model, "task": task, "criterion": _pretrained_criterion(cfg.get("criterion"))}


def _pretrained_criterion(criterion: dict[str, Any] | None) -> dict[str, Any] | None:
    from fairseq.criterions.wav2vec_criterion import Wav2VecCriterionConfig

    if criterion is None:  # as fairseq leaves the base model's inside a fine-tuned one
        return None
    if criterion.get("_name") != "ccc":
        return _section(criterion, Wav2VecCriterionConfig, _name="wav2vec")
    return {
        "_name": "wav2vec",
        "infonce": True,
        "loss_weights": [criterion["diversity_weight"], criterion["penalty_weight"]],
        "log_keys": ["prob_perplexity", "code_perplexity", "temp"],
    }


def _finetuned_cfg(cfg: dict[str, Any]) -> dict[str, Any]:
    from fairseq.criterions.ctc import CtcCriterionConfig
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
    from fairseq.tasks.audio_finetuning import AudioFinetuningConfig

    base = cfg["model"].get("w2v_args")
    if not isinstance(base, dict):
        raise InputError("the fine-tuned checkpoint does not hold its base model's configuration (model.w2v_args)")
    if base["model"].get("_name") not in PRETRAINED_MODELS:
        raise InputError(f"base model {base['model'].get('_name')!r} cannot be exported; expected {PRETRAINED_MODELS}")
    _refuse_layer_type(cfg["model"], ("transformer",))
    base_cfg = {**_pretrained_cfg(base), "criterion": None, "lr_scheduler": None}
    model = _section(
        cfg["model"], Wav2Vec2CtcConfig, _name=FINETUNED_MODEL, data=DATA_PLACEHOLDER, w2v_path="", w2v_args=base_cfg
    )
    task = _section(cfg["task"], AudioFinetuningConfig, _name="audio_finetuning", data=DATA_PLACEHOLDER)
    # Scoring while training is for sequence-to-sequence models, and its settings differ between the fairseqs.
    task = {key: value for key, value in task.items() if not key.startswith("eval_")}
    criterion = _section(cfg["criterion"], CtcCriterionConfig, _name="ctc")
    criterion.update(wer_kenlm_model=None, wer_lexicon=None, wer_args=None)
    return {**_run_cfg(cfg), "model": model, "task": task, "criterion": criterion}


def _refuse_layer_type(model: dict[str, Any], allowed: tuple[str, ...]) -> None:
    layer_type = str(model.get("layer_type", "transformer"))
    if layer_type not in allowed:
        raise InputError(
            f"model.layer_type: {layer_type!r} is not known to fairseq 0.12.2; expected {' or '.join(allowed)}"
        )


def _section(values: dict[str, Any], config_class: type, **replaced: Any) -> dict[str, Any]:
    """Reduce to shared fields; one that came later than the checkpoint gets its default: what was done before."""
    known = shared_fields(config_class)
    complete = {**field_defaults(config_class), **values}
    return {**{key: value for key, value in complete.items() if key in known}, **replaced}


def _run_cfg(cfg: dict[str, Any]) -> dict[str, Any]:
    """fairseq's default configuration, with the optimisation that this checkpoint was trained with."""
    from fairseq.dataclass.configs import FairseqConfig, OptimizationConfig
    from omegaconf import OmegaConf

    sections = {}
    for field in dataclasses.fields(FairseqConfig):
        default = field.default if field.default is not dataclasses.MISSING else None
        config_class = default if isinstance(default, type) else type(default)
        if dataclasses.is_dataclass(config_class):
            known = shared_fields(config_class)
            defaults: Any = OmegaConf.to_container(OmegaConf.structured(config_class), resolve=False, enum_to_str=True)
            default = {key: value for key, value in defaults.items() if key in known}
        sections[field.name] = default
    run: Any = OmegaConf.to_container(OmegaConf.create(sections), resolve=True)
    run["optimization"].update(_section(cfg.get("optimization") or {}, OptimizationConfig))
    run.update(optimizer=cfg.get("optimizer"), lr_scheduler=cfg.get("lr_scheduler"))
    return run
