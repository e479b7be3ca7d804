"""Run one recording through fairseq and through transformers and find the largest difference of their outputs.

Letters: B utterances, S samples, T frames, D width of the Transformer, G codebook groups, V symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import layer_norm, pad

from ccc_w2v.errors import InputError

# The largest difference that fp32 rounding is allowed; relative for outputs whose largest value exceeds 1.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class OutputDifference:
    """The largest difference found, and at which output of which recording."""

    value: float
    where: str


def check(difference: OutputDifference) -> None:
    """Raise InputError when a difference exceeds TOLERANCE."""
    if not difference.value <= TOLERANCE:
        raise InputError(
            f"transformers' {difference.where} differs from fairseq's by {difference.value:.2e}, allowed is "
            f"{TOLERANCE:.0e}; nothing was written"
        )


def largest_difference(fairseq_model: Any, hf_model: Any, waves: Sequence[torch.Tensor]) -> OutputDifference:
    """Compare every layer and every output on each wave (S,) alone and on a padded pair with its mask.

    The waves are what the models take: normalised where the task normalises. Both models are in eval mode.
    """
    differences = [
        _compare(
            fairseq_outputs(fairseq_model, wave[None]), transformers_outputs(hf_model, wave[None]), f"recording {i}"
        )
        for i, wave in enumerate(waves, start=1)
    ]
    differences.append(_compare_padded(fairseq_model, hf_model, waves))
    return max(differences, key=lambda difference: difference.value)


def normalized(wave: torch.Tensor, normalize: bool) -> torch.Tensor:
    """Return the wave (S,) as fairseq's datasets hand it to a model."""
    return layer_norm(wave, wave.shape) if normalize else wave


def distance(reference: torch.Tensor, exported: torch.Tensor) -> float:
    """Return the largest difference of two outputs, relative to the reference's largest value where that exceeds 1."""
    if reference.shape != exported.shape:
        return float("inf")
    gap = (reference.double() - exported.double()).abs().max()
    value = (gap / reference.double().abs().max().clamp(min=1.0)).item()
    return value if value == value else float("inf")  # NaN compares with nothing


@torch.no_grad()
def fairseq_outputs(
    model: Any, waves_BS: torch.Tensor, padding_BS: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Return each output of a fairseq model by name, (B, T, ...): features, layers, context, then the head's."""
    finetuned = hasattr(model, "w2v_encoder")
    base = model.w2v_encoder.w2v_model if finetuned else model
    result = base(waves_BS, padding_mask=padding_BS, mask=False, features_only=True)
    features, context_BTD = result["features"], result["x"]
    outputs = {"features": features}
    for i, layer in enumerate(result["layer_results"], start=1):
        outputs[f"layer {i}"] = layer[0].transpose(0, 1)
    outputs["context"] = context_BTD
    if finetuned:
        outputs["logits"] = model(source=waves_BS, padding_mask=padding_BS)["encoder_out"].transpose(0, 1)
        return outputs
    quantized, codes = base.quantizer.forward_idx(features)
    outputs["codes"] = codes.view(*features.shape[:2], -1)
    outputs["projected targets"] = base.project_q(quantized)
    outputs["projected context"] = base.final_proj(context_BTD)
    return outputs


@torch.no_grad()
def transformers_outputs(
    model: Any, waves_BS: torch.Tensor, padding_BS: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Return the same outputs of a transformers model, by the same names."""
    attention_mask = None if padding_BS is None else (~padding_BS).long()
    layers: list[torch.Tensor] = []
    encoded: list[Any] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, output: layers.append(output if torch.is_tensor(output) else output[0])
        )
        for layer in model.wav2vec2.encoder.layers
    ]
    hooks.append(model.wav2vec2.register_forward_hook(lambda _, __, output: encoded.append(output)))
    try:
        result = model(waves_BS, attention_mask=attention_mask)
    finally:
        for hook in hooks:
            hook.remove()
    encoder = encoded[0]
    outputs = {"features": encoder.extract_features}
    outputs.update({f"layer {i}": output for i, output in enumerate(layers, start=1)})
    outputs["context"] = encoder.last_hidden_state
    if hasattr(model, "lm_head"):
        outputs["logits"] = result.logits
        return outputs
    quantizer = model.quantizer
    code_logits = quantizer.weight_proj(encoder.extract_features)
    outputs["codes"] = code_logits.unflatten(-1, (quantizer.num_groups, quantizer.num_vars)).argmax(-1)
    outputs["projected targets"] = result.projected_quantized_states
    outputs["projected context"] = result.projected_states
    return outputs


def _compare_padded(fairseq_model: Any, hf_model: Any, waves: Sequence[torch.Tensor]) -> OutputDifference:
    by_length = sorted(waves, key=len)
    longest, samples = by_length[-1], len(by_length[-1])
    # At least a quarter of the shorter one's row is padding, even where only one recording was given.
    shortest = by_length[0][: samples * 3 // 4]
    waves_BS = torch.stack([longest, pad(shortest, (0, samples - len(shortest)))])
    padding_BS = torch.zeros(2, samples, dtype=torch.bool)
    padding_BS[1, len(shortest) :] = True
    reference = fairseq_outputs(fairseq_model, waves_BS, padding_BS)
    exported = transformers_outputs(hf_model, waves_BS, padding_BS)
    frames = int(hf_model._get_feat_extract_output_lengths(len(shortest)))
    # What stands in padded frames is nobody's output.
    rows = [
        _compare(
            {name: output[row, :valid] for name, output in reference.items()},
            {name: output[row, :valid] for name, output in exported.items()},
            f"padded pair, recording {row + 1}",
        )
        for row, valid in enumerate((None, frames))
    ]
    return max(rows, key=lambda difference: difference.value)


def _compare(reference: dict[str, torch.Tensor], exported: dict[str, torch.Tensor], recording: str) -> OutputDifference:
    if reference.keys() != exported.keys():
        raise InputError(f"outputs differ: fairseq has {list(reference)}, transformers {list(exported)}")
    worst = OutputDifference(0.0, "every output")
    for name, output in reference.items():
        value = distance(output, exported[name])
        if value > worst.value:
            worst = OutputDifference(value, f"{name} ({recording})")
    return worst
