"""A plain fairseq configuration -> transformers' Wav2Vec2Config; what it cannot express is refused."""

from __future__ import annotations

from typing import Any

from ccc_w2v.errors import InputError
from ccc_w2v.export.plain import FINETUNED_MODEL, parse_conv_layers

BLANK = 0  # fairseq's CTC blank is <s>, the first symbol of every Dictionary

# Settings of which transformers knows one value only.
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
_CHOICES = {
    "extractor_mode": {"default": "group", "layer_norm": "layer"},
    "activation_fn": {"gelu": "gelu", "relu": "relu"},
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


def _refuse_unsupported(model: dict[str, Any], finetuned: dict[str, Any] | None) -> None:
    required = [(model, _REQUIRED)]
    required.append((finetuned, _REQUIRED_OF_FINETUNED) if finetuned else (model, _REQUIRED_OF_PRETRAINED))
    for section, values in required:
        for name, expected in values.items():
            if section.get(name, expected) != expected:
                raise InputError(
                    f"model.{name}: transformers' Wav2Vec2 supports only {expected}, found {section[name]}"
                )
    for name, choices in _CHOICES.items():
        if model[name] not in choices:
            raise InputError(f"model.{name}: expected one of {', '.join(choices)}, found {model[name]!r}")


def _encoder_settings(model: dict[str, Any]) -> dict[str, Any]:
    dims, kernels, strides = zip(*parse_conv_layers(model["conv_feature_layers"]), strict=True)
    return {
        "feat_extract_norm": _CHOICES["extractor_mode"][model["extractor_mode"]],
        "feat_extract_activation": "gelu",
        "conv_dim": dims,
        "conv_kernel": kernels,
        "conv_stride": strides,
        "conv_bias": model["conv_bias"],
        "hidden_size": model["encoder_embed_dim"],
        "num_hidden_layers": model["encoder_layers"],
        "num_attention_heads": model["encoder_attention_heads"],
        "intermediate_size": model["encoder_ffn_embed_dim"],
        "hidden_act": _CHOICES["activation_fn"][model["activation_fn"]],
        "do_stable_layer_norm": model["layer_norm_first"],
        "num_conv_pos_embeddings": model["conv_pos"],
        "num_conv_pos_embedding_groups": model["conv_pos_groups"],
    }


def _pretraining_settings(model: dict[str, Any], cfg: dict[str, Any]) -> dict[str, Any]:
    projected = model["final_dim"] if model["final_dim"] > 0 else model["encoder_embed_dim"]
    return {
        "hidden_dropout": model["dropout"],
        "attention_dropout": model["attention_dropout"],
        "activation_dropout": model["activation_dropout"],
        "feat_proj_dropout": model["dropout_input"],
        "feat_quantizer_dropout": model["dropout_features"],
        "layerdrop": model["encoder_layerdrop"],
        **_mask_settings(model),
        "num_codevector_groups": model["latent_groups"],
        "num_codevectors_per_group": model["latent_vars"],
        "codevector_dim": model["latent_dim"] if model["latent_dim"] > 0 else projected,
        "proj_codevector_dim": projected,
        "num_negatives": model["num_negatives"],
        "contrastive_logits_temperature": float(model["logit_temp"]),
        "diversity_loss_weight": float((cfg["criterion"].get("loss_weights") or [0.0])[0]),
    }


def _ctc_settings(finetuned: dict[str, Any], criterion: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_dropout": finetuned["dropout"],
        "attention_dropout": finetuned["attention_dropout"],
        "activation_dropout": finetuned["activation_dropout"],
        "feat_proj_dropout": finetuned["dropout_input"],
        "final_dropout": finetuned["final_dropout"],
        "layerdrop": finetuned["layerdrop"],
        **_mask_settings(finetuned, apply=finetuned["apply_mask"]),
        "vocab_size": vocabulary,
        "pad_token_id": BLANK,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "ctc_zero_infinity": criterion["zero_infinity"],
        "ctc_loss_reduction": "sum",
    }


def _mask_settings(section: dict[str, Any], apply: bool = True) -> dict[str, Any]:
    settings = {
        "apply_spec_augment": apply,
        "mask_time_prob": section["mask_prob"],
        "mask_time_length": section["mask_length"],
        "mask_feature_prob": section["mask_channel_prob"],
        "mask_feature_length": section["mask_channel_length"],
    }
    if section["mask_prob"] == 0 and section["mask_channel_prob"] == 0:
        # With both at 0 transformers would have no mask embedding to put the trained one in; masking stays off.
        settings.update(apply_spec_augment=False, mask_time_prob=0.05)
    return settings
