"""A plain fairseq configuration -> transformers' Wav2Vec2Config and back; what the other cannot express is refused.

The tables give, for each of transformers' settings, the name of fairseq's with the same value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.plain import FINETUNED_MODEL
from ccc_w2v.compat import field_defaults
from ccc_w2v.errors import InputError

BLANK = 0  # fairseq's CTC blank is <s>, the first symbol of every Dictionary

_ENCODER = {
    "conv_bias": "conv_bias",
    "hidden_size": "encoder_embed_dim",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_embed_dim",
    "do_stable_layer_norm": "layer_norm_first",
    "num_conv_pos_embeddings": "conv_pos",
    "num_conv_pos_embedding_groups": "conv_pos_groups",
}
_DROPOUTS = {
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "feat_proj_dropout": "dropout_input",
}
_PRETRAINED = {
    **_DROPOUTS,
    "feat_quantizer_dropout": "dropout_features",
    "layerdrop": "encoder_layerdrop",
    "num_codevector_groups": "latent_groups",
    "num_codevectors_per_group": "latent_vars",
    "num_negatives": "num_negatives",
}
_FINETUNED = {**_DROPOUTS, "final_dropout": "final_dropout", "layerdrop": "layerdrop"}
_MASK = {
    "mask_time_prob": "mask_prob",
    "mask_time_length": "mask_length",
    "mask_feature_prob": "mask_channel_prob",
    "mask_feature_length": "mask_channel_length",
}
# fairseq's name and choices of a setting, by transformers' name.
_CHOICES = {
    "feat_extract_norm": ("extractor_mode", {"default": "group", "layer_norm": "layer"}),
    "hidden_act": ("activation_fn", {"gelu": "gelu", "relu": "relu"}),
}
# Settings of which the other side knows one value only.
_REQUIRED = {
    "layer_type": "transformer",
    "pos_conv_depth": 1,
    "crop_seq_to_multiple": 1,
    "quantize_input": False,
}
_REQUIRED_OF_PRETRAINED = {
    "quantize_targets": True,
    "quantizer_depth": 1,
    "target_glu": False,
    "negatives_from_everywhere": False,
    "cross_sample_negatives": 0,
    "codebook_negatives": 0,
}
_REQUIRED_OF_FINETUNED = {"blank_weight": 0}
_REQUIRED_OF_TRANSFORMERS = {
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "add_adapter": False,
    "adapter_attn_dim": None,
}


def transformers_config(cfg: dict[str, Any], vocabulary: int = 0) -> Any:
    """Build the Wav2Vec2Config of a plain configuration; ``vocabulary`` is the number of symbols, 0 when pre-trained.

    Raises InputError for a setting that transformers cannot express.
    """
    from transformers import Wav2Vec2Config

    finetuned = cfg["model"] if cfg["model"]["_name"] == FINETUNED_MODEL else None
    model = finetuned["w2v_args"]["model"] if finetuned else cfg["model"]
    _refuse_unsupported(model, finetuned)
    head = _ctc_settings(finetuned, cfg["criterion"], vocabulary) if finetuned else _pretraining_settings(model, cfg)
    return Wav2Vec2Config(**_encoder_settings(model), **head)


def fairseq_settings(config: Any, *, finetuned: bool, normalize: bool, sample_rate: int) -> dict[str, Any]:
    """Return the fairseq configuration of a Wav2Vec2Config, as plain data: the sections model, task and criterion.

    ``normalize`` and ``sample_rate`` are the feature extractor's. Raises InputError for a setting that fairseq cannot
    express.
    """
    from fairseq.criterions.ctc import CtcCriterionConfig
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig

    task = {"_name": "audio_pretraining", "sample_rate": sample_rate, "normalize": normalize}
    if not finetuned:
        penalties = [config.diversity_loss_weight, 0.0]  # transformers has no penalty on the features
        criterion = {"_name": "wav2vec", "infonce": True, "loss_weights": penalties}
        model = {**_encoder_of(config), **_renamed(config, _PRETRAINED), **_renamed(config, _MASK)}
        model.update(
            final_dim=config.proj_codevector_dim,
            latent_dim=config.codevector_dim,
            logit_temp=config.contrastive_logits_temperature,
        )
        if not config.apply_spec_augment:
            model.update(mask_prob=0.0, mask_channel_prob=0.0)
        return {"model": model, "task": task, "criterion": criterion}
    base = {"model": _encoder_of(config), "task": dict(task), "criterion": None}
    model = {
        **field_defaults(Wav2Vec2CtcConfig),
        **_renamed(config, _FINETUNED),
        **_renamed(config, _MASK),
        "apply_mask": config.apply_spec_augment,
        "normalize": normalize,
    }
    model.update(_name=FINETUNED_MODEL, w2v_args=base)
    criterion = {**field_defaults(CtcCriterionConfig), "_name": "ctc", "zero_infinity": config.ctc_zero_infinity}
    return {"model": model, "task": {**task, "_name": "audio_finetuning"}, "criterion": criterion}


def _refuse_unsupported(model: dict[str, Any], finetuned: dict[str, Any] | None) -> None:
    required: list[tuple[dict[str, Any], Mapping[str, object]]] = [(model, _REQUIRED)]
    required.append((finetuned, _REQUIRED_OF_FINETUNED) if finetuned else (model, _REQUIRED_OF_PRETRAINED))
    for section, values in required:
        for name, expected in values.items():
            if section.get(name, expected) != expected:
                raise InputError(
                    f"model.{name}: transformers' Wav2Vec2 supports only {expected}, found {section[name]}"
                )
    for name, choices in _CHOICES.values():
        if model[name] not in choices:
            raise InputError(f"model.{name}: expected one of {', '.join(choices)}, found {model[name]!r}")


def _encoder_settings(model: dict[str, Any]) -> dict[str, Any]:
    dims, kernels, strides = zip(*parse_conv_layers(model["conv_feature_layers"]), strict=True)
    return {
        "feat_extract_activation": "gelu",
        "conv_dim": dims,
        "conv_kernel": kernels,
        "conv_stride": strides,
        **{theirs: choices[model[name]] for theirs, (name, choices) in _CHOICES.items()},
        **{theirs: model[name] for theirs, name in _ENCODER.items()},
    }


def _encoder_of(config: Any) -> dict[str, Any]:
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config

    for name, expected in _REQUIRED_OF_TRANSFORMERS.items():
        if getattr(config, name, expected) != expected:
            raise InputError(f"config.json: {name}: fairseq knows only {expected}, found {getattr(config, name)}")
    layers = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    model = {**field_defaults(Wav2Vec2Config), **_renamed(config, _ENCODER), "_name": "wav2vec2"}
    model.update(conv_feature_layers=str([tuple(layer) for layer in layers]), quantize_targets=True)
    for theirs, (name, choices) in _CHOICES.items():
        fairseq = {value: key for key, value in choices.items()}
        if getattr(config, theirs) not in fairseq:
            raise InputError(
                f"config.json: {theirs}: expected one of {', '.join(fairseq)}, found {getattr(config, theirs)!r}"
            )
        model[name] = fairseq[getattr(config, theirs)]
    return model


def _renamed(config: Any, table: dict[str, str]) -> dict[str, Any]:
    return {name: getattr(config, theirs) for theirs, name in table.items()}


def _pretraining_settings(model: dict[str, Any], cfg: dict[str, Any]) -> dict[str, Any]:
    projected = model["final_dim"] if model["final_dim"] > 0 else model["encoder_embed_dim"]
    return {
        **{theirs: model[name] for theirs, name in _PRETRAINED.items()},
        **_mask_settings(model),
        "codevector_dim": model["latent_dim"] if model["latent_dim"] > 0 else projected,
        "proj_codevector_dim": projected,
        "contrastive_logits_temperature": float(model["logit_temp"]),
        "diversity_loss_weight": float(((cfg["criterion"] or {}).get("loss_weights") or [0.0])[0]),
    }


def _ctc_settings(finetuned: dict[str, Any], criterion: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    return {
        **{theirs: finetuned[name] for theirs, name in _FINETUNED.items()},
        **_mask_settings(finetuned, apply=finetuned["apply_mask"]),
        "vocab_size": vocabulary,
        "pad_token_id": BLANK,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "ctc_zero_infinity": criterion["zero_infinity"],
        "ctc_loss_reduction": "sum",
    }


def _mask_settings(section: dict[str, Any], apply: bool = True) -> dict[str, Any]:
    settings = {"apply_spec_augment": apply, **{theirs: section[name] for theirs, name in _MASK.items()}}
    if section["mask_prob"] == 0 and section["mask_channel_prob"] == 0:
        # With both at 0 transformers would have no mask embedding to put the trained one in; masking stays off.
        settings.update(apply_spec_augment=False, mask_time_prob=0.05)
    return settings
