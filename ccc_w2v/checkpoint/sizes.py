"""The sizes that a checkpoint's settings name, held against the tensors that it brings before anything is built.

fairseq allocates what the settings say and compares it with the tensors afterwards: a file of a few kilobytes could ask
for terabytes.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import torch

from ccc_w2v.checkpoint.evaluated import canonical, parse_conv_layers
from ccc_w2v.errors import InputError

# What a file may lack of the model that fairseq builds first: a fine-tuned one its quantizer, a float16 one nothing.
SPARE = 8_000_000  # parameters
# Settings that decide how much is allocated beside the parameters, with the most that anyone has used by far.
MOST = {"required_seq_len_multiple": 1024, "max_positions": 100_000, "pos_conv_depth": 64, "quantizer_depth": 16}


def check_sizes(model: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], place: str = "model") -> None:
    """Raise InputError where a model's settings name more parameters than twice those in its file, or no sizes at all.

    ``model`` is the section of a wav2vec 2.0 or of a transformer_lm; only its largest tensors are counted.
    """
    for name, most in MOST.items():
        if (size := _size(model, name, place)) > most:
            raise InputError(f"{place}.{name}: {size}, expected at most {most}")
    implied = _transformer(model, place) + (_wav2vec(model, place) if "conv_feature_layers" in model else 0)
    there = sum(tensor.numel() for tensor in tensors.values())
    if implied > 2 * there + SPARE:
        raise InputError(
            f"{place}: its settings describe at least {implied:,} parameters, the file holds {there:,}; they do not "
            "belong together"
        )


def _transformer(model: Mapping[str, Any], place: str) -> int:
    """Count the weights of attention and feed-forward layers, and of learned positions."""
    total = 0
    for side in ("encoder", "decoder"):
        width, inner, layers = (
            _size(model, f"{side}_{name}", place) for name in ("embed_dim", "ffn_embed_dim", "layers")
        )
        adapters = _size(model, "adp_num", place) * _size(model, "adp_dim", place)
        # A layer without width is still an object.
        total += layers * (4 * width**2 + 2 * width * inner + 2 * width * adapters + 1000)
    width = _size(model, "decoder_embed_dim", place)
    positions = max(_size(model, name, place) for name in ("max_target_positions", "tokens_per_sample"))
    filters = model.get("character_filters")
    if isinstance(filters, str):
        filters = ast.literal_eval(canonical("character_filters", filters) or "[]")
    characters = _size(model, "character_embedding_dim", place)
    convolutions = sum(_product(each) for each in filters or [] if isinstance(each, (list, tuple))) * characters
    sides = sum(_size(model, f"decoder_{name}_dim", place) for name in ("input", "output"))
    return total + width * (positions if model.get("decoder_learned_pos") else 0) + convolutions + width * sides


def _wav2vec(model: Mapping[str, Any], place: str) -> int:
    """Count the weights of the convolutions, the positions, the quantizer and the projections."""

    def size(name: str) -> int:
        return _size(model, name, place)

    channels, convolutions = 1, 0
    for dim, kernel, _ in parse_conv_layers(model["conv_feature_layers"]):
        convolutions += channels * dim * kernel
        channels = dim
    width, final = size("encoder_embed_dim"), size("final_dim")
    positions = width * width // max(size("conv_pos_groups"), 1) * size("conv_pos")
    code = size("latent_dim") or final or width
    hidden = channels * max(size("quantizer_factor"), 1)
    depth = size("quantizer_depth")
    codes = size("latent_vars") * max(size("latent_groups"), 1)
    quantizer = codes * (channels + code // max(size("latent_groups"), 1)) + max(depth - 1, 0) * hidden**2
    return convolutions + positions + quantizer + final * (width + code)


def _size(model: Mapping[str, Any], name: str, place: str) -> int:
    value = model.get(name)
    if name == "adp_num" and value == -1:  # fairseq's default: none
        return 0
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or value < 0:
        raise InputError(f"{place}.{name}: expected a whole number of at least 0, found {str(value)[:40]!r}")
    return value


def _product(sizes: Any) -> int:
    product = 1
    for size in sizes:
        if not isinstance(size, int) or size < 1:
            raise InputError(f"character_filters: expected pairs of positive whole numbers, found {str(sizes)[:40]}")
        product *= size
    return product
