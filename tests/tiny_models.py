"""Tiny models for tests: a few thousand parameters, every part of wav2vec 2.0 in place."""

from __future__ import annotations

import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model

from ccc_w2v.model import CccWav2Vec2Model
from ccc_w2v.settings.model import CccWav2Vec2Config

TINY = {
    "conv_feature_layers": "[(32,10,5)] + [(32,3,2)]*4 + [(32,2,2)]*2",
    "encoder_layers": 2,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 4,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "final_dim": 32,
    "latent_vars": 16,
    "quantize_targets": True,
    "num_negatives": 10,
}
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "dropout_input", "dropout_features")
NO_DROPOUT = dict.fromkeys((*DROPOUTS, "encoder_layerdrop"), 0.0)


def tiny_ccc(seed: int = 0, **settings: object) -> CccWav2Vec2Model:
    """Build our tiny model from a seed."""
    torch.manual_seed(seed)
    return CccWav2Vec2Model(CccWav2Vec2Config(**{**TINY, **settings}))


def tiny_fairseq(seed: int = 0, **settings: object) -> Wav2Vec2Model:
    """Build fairseq's own model of the same size from the same seed."""
    torch.manual_seed(seed)
    return Wav2Vec2Model(Wav2Vec2Config(**{**TINY, **settings}))
