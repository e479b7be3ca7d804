"""The table between fairseq's tensor names and transformers'; each tensor of either side is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ccc_w2v.errors import InputError

_LAYER = {
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.q_proj": "self_attn.q_proj",
    "attention.out_proj": "self_attn.out_proj",
    "layer_norm": "self_attn_layer_norm",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
    "final_layer_norm": "final_layer_norm",
}
_POSITION = {
    "conv.bias": "0.bias",
    # The gain and the direction of weight normalisation.
    "conv.parametrizations.weight.original0": "0.weight_g",
    "conv.parametrizations.weight.original1": "0.weight_v",
}
_PROJECTION = "wav2vec2.feature_projection.projection"


def tensor_names(config: Any, finetuned: bool) -> dict[str, str]:
    """Return fairseq's name of every tensor of the transformers model that ``config`` describes, by its name there."""
    base = "w2v_encoder.w2v_model." if finetuned else ""
    names = dict(_encoder_names(config, base))
    if finetuned:
        names.update(_affine("lm_head", "w2v_encoder.proj"))
        return names
    names["quantizer.codevectors"] = "quantizer.vars"
    names.update(_affine("quantizer.weight_proj", "quantizer.weight_proj"))
    names.update(_affine("project_q", "project_q"))
    names.update(_affine("project_hid", "final_proj"))
    return names


def _affine(theirs: str, fairseq: str) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{fairseq}.{part}" for part in ("weight", "bias")}


def _encoder_names(config: Any, base: str) -> Iterator[tuple[str, str]]:
    yield "wav2vec2.masked_spec_embed", f"{base}mask_emb"
    grouped = config.feat_extract_norm == "group"
    for i in range(len(config.conv_dim)):
        theirs, fairseq = f"wav2vec2.feature_extractor.conv_layers.{i}", f"{base}feature_extractor.conv_layers.{i}"
        yield f"{theirs}.conv.weight", f"{fairseq}.0.weight"
        if config.conv_bias:
            yield f"{theirs}.conv.bias", f"{fairseq}.0.bias"
        if not grouped or i == 0:
            yield from _affine(f"{theirs}.layer_norm", f"{fairseq}.2" if grouped else f"{fairseq}.2.1").items()
    yield from _affine("wav2vec2.feature_projection.layer_norm", f"{base}layer_norm").items()
    if config.conv_dim[-1] != config.hidden_size:
        yield from _affine(_PROJECTION, f"{base}post_extract_proj").items()
    for theirs, fairseq in _POSITION.items():
        yield f"wav2vec2.encoder.pos_conv_embed.{theirs}", f"{base}encoder.pos_conv.{fairseq}"
    yield from _affine("wav2vec2.encoder.layer_norm", f"{base}encoder.layer_norm").items()
    for i in range(config.num_hidden_layers):
        for theirs, fairseq in _LAYER.items():
            layer, theirs_layer = f"{base}encoder.layers.{i}.{fairseq}", f"wav2vec2.encoder.layers.{i}.{theirs}"
            yield from _affine(theirs_layer, layer).items()


def fill(model: Any, tensors: dict[str, torch.Tensor], finetuned: bool) -> None:
    """Put fairseq's tensors into a transformers model, in place, as float32.

    Raises InputError naming every tensor that one side has and the other lacks, or that differs in shape.
    """
    names = tensor_names(model.config, finetuned)
    expected = model.state_dict()
    problems = [f"{name} is not in the checkpoint" for name in names.values() if name not in tensors]
    problems += [f"{name} has no place in transformers" for name in tensors if name not in set(names.values())]
    filled = {theirs: tensors[name].float() for theirs, name in names.items() if name in tensors}
    if f"{_PROJECTION}.weight" not in names:
        # fairseq has no projection between equal widths, transformers always has one: the identity is exact.
        width = model.config.hidden_size
        filled.update({f"{_PROJECTION}.weight": torch.eye(width), f"{_PROJECTION}.bias": torch.zeros(width)})
    problems += [f"transformers' {name} is not filled" for name in expected if name not in filled]
    problems += [
        f"{names.get(name, name)} is {tuple(tensor.shape)}, transformers' {name} is {tuple(expected[name].shape)}"
        for name, tensor in filled.items()
        if name in expected and expected[name].shape != tensor.shape
    ]
    if problems:
        raise InputError(f"the tensors cannot all be mapped to transformers: {'; '.join(problems)}")
    # Taken over, not copied: a third copy of the weights would be the largest thing in memory.
    model.load_state_dict(filled, strict=True, assign=True)


def gather(model: Any, finetuned: bool) -> dict[str, torch.Tensor]:
    """Return a transformers model's tensors by fairseq's names, as float32; the inverse of ``fill``.

    Raises InputError for a tensor that fairseq has no place for.
    """
    names = tensor_names(model.config, finetuned)
    tensors = model.state_dict()
    if f"{_PROJECTION}.weight" not in names:
        width = model.config.hidden_size
        weight, bias = (tensors.pop(f"{_PROJECTION}.{part}") for part in ("weight", "bias"))
        if not torch.equal(weight, torch.eye(width)) or bias.any():
            raise InputError(
                f"{_PROJECTION}: fairseq has no projection between equal widths ({width}), and this one is no identity"
            )
    if homeless := sorted(tensors.keys() - names.keys()):
        raise InputError(f"tensors that fairseq has no place for: {', '.join(homeless)}")
    return {name: tensors[theirs].float().clone() for theirs, name in names.items()}
