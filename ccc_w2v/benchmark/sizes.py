"""The models that are measured, as settings of fairseq's wav2vec 2.0."""

from __future__ import annotations

from typing import Any

# docs/method.md, section 7, with layer drop off: it would give every step another number of layers.
BASE = {
    "quantize_targets": True,
    "final_dim": 256,
    "latent_temp": (2.0, 0.5, 0.999995),
    "encoder_layerdrop": 0.0,
    "dropout_input": 0.1,
    "dropout_features": 0.1,
    "feature_grad_mult": 0.1,
}
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {**BASE, "encoder_layers": 2, "encoder_embed_dim": 96, "encoder_ffn_embed_dim": 192, "final_dim": 64}
    | {"encoder_attention_heads": 4, "conv_feature_layers": "[(64,10,5)] + [(64,3,2)]*4 + [(64,2,2)]*2"},
    # recipes/small/config/pretrain.yaml
    "small": {"quantize_targets": True, "conv_feature_layers": "[(64,20,10)] + [(64,3,2)]*3 + [(128,3,2)]*2"}
    | {"layer_norm_first": True, "encoder_layers": 4, "encoder_embed_dim": 192, "encoder_ffn_embed_dim": 768}
    | {"encoder_attention_heads": 4, "conv_pos": 32, "conv_pos_groups": 8, "final_dim": 96, "latent_vars": 80}
    | {"latent_temp": (2.0, 0.5, 0.999), "encoder_layerdrop": 0.0, "required_seq_len_multiple": 1}
    | dict.fromkeys(("attention_dropout", "dropout", "dropout_input", "dropout_features"), 0.0),
    "base": BASE,
    "large": {**BASE, "extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True, "final_dim": 768}
    | {"encoder_layers": 24, "encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16}
    | {"dropout": 0.0, "attention_dropout": 0.0, "feature_grad_mult": 1.0, "latent_temp": (2.0, 0.1, 0.999995)},
}
