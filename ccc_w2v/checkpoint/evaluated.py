"""The settings that fairseq evaluates as Python code, parsed here without running anything.

fairseq 0.12.2 and fairseq-fixed 0.12.3.1 call ``eval`` or ``ast.literal_eval`` on each string below (a test reads their
sources for more). `canonical` gives the literal that means the same, so that what they evaluate was written here.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable
from typing import Any

from ccc_w2v.errors import InputError

MAX_TEXT = 4096  # characters; the longest in use, wav2vec's aggregator, has about 200
_SIDE = re.compile("^(encoder|decoder)_")
MAX_LAYERS = 64  # convolutions; wav2vec 2.0 has 7, vq-wav2vec's aggregator 13

ConvLayers = list[tuple[int, ...]]


def canonical(name: str, text: str) -> str:
    """Return the literal that the text of setting ``name`` stands for; text of any other setting comes back as it is.

    Raises InputError where the text is more than the literal that the setting takes.
    """
    # Transformers of a flat configuration: decoder_xformers_att_config becomes decoder.xformers_att_config.
    read = EVALUATED.get(name) or EVALUATED.get(_SIDE.sub("", name))
    if read is None or not text:
        return text
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"{len(text)} characters")
        return read(text)
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        raise InputError(f"{name}: expected {EXPECTED[read]}, found {text[:80]!r}") from error


def parse_conv_layers(text: str) -> list[tuple[int, int, int]]:
    """Read fairseq's conv_feature_layers, "[(dim, kernel, stride)] * n + ...", without running it as code."""
    if not isinstance(text, str):
        raise InputError(f"conv_feature_layers: expected text, found {type(text).__name__}")
    layers = ast.literal_eval(canonical("conv_feature_layers", text) or "[]")
    if not layers or not all(len(layer) == 3 for layer in layers):
        raise InputError(f"conv_feature_layers: expected {EXPECTED[_conv_layers]}, found {text[:80]!r}")
    return layers


def _conv_layers(text: str) -> str:
    layers = _expand(ast.parse(text.strip(), mode="eval").body)
    return repr(layers)


def _expand(node: ast.expr) -> ConvLayers:
    """Read lists of layers, their sums, and their products with a number: nothing else that Python knows."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        layers = _expand(node.left) + _expand(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = _whole(node.right)
        one = _expand(node.left)
        if len(one) * times > MAX_LAYERS:
            raise ValueError(f"more than {MAX_LAYERS} layers")
        layers = one * times
    elif isinstance(node, ast.List):
        layers = [_layer(element) for element in node.elts]
    else:
        raise ValueError(f"a {type(node).__name__}")
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"more than {MAX_LAYERS} layers")
    return layers


def _layer(node: ast.expr) -> tuple[int, ...]:
    if not isinstance(node, (ast.Tuple, ast.List)) or not node.elts:
        raise ValueError("a layer is (dim, kernel, stride)")
    return tuple(_whole(element) for element in node.elts)


def _whole(node: ast.expr) -> int:
    value = node.value if isinstance(node, ast.Constant) else None
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError("expected a positive whole number")
    return value


def _numbers(text: str) -> str:
    value = ast.literal_eval(text.strip())
    _require_numbers(value)
    return repr(value)


def _require_numbers(value: Any) -> None:
    if isinstance(value, (list, tuple)):
        for element in value:
            _require_numbers(element)
    elif value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
        raise ValueError(f"{value!r} is no number")


def _literal(text: str) -> str:
    value = ast.literal_eval(text.strip())
    written = repr(value)
    # An infinity and its like have no literal: their name would be looked up.
    if ast.literal_eval(written) != value:
        raise ValueError(f"{written} is no literal")
    return written


def _json(text: str) -> str:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return json.dumps(value)


EXPECTED: dict[Callable[[str], str], str] = {
    _conv_layers: "[(dim, kernel, stride)] * n + ...",
    _numbers: "numbers",
    _literal: "a Python literal",
    _json: "a JSON object",
}
_NAMES: dict[Callable[[str], str], tuple[str, ...]] = {
    _conv_layers: ("conv_feature_layers", "conv_aggregator_layers", "feature_encoder_spec"),
    _numbers: (
        *("adam_betas", "adamax_betas", "lamb_betas", "adafactor_eps", "latent_temp"),
        *("adaptive_softmax_cutoff", "adaptive_input_cutoff", "character_filters"),
        *("pipeline_balance", "pipeline_devices", "pipeline_encoder_balance", "pipeline_encoder_devices"),
        *("pipeline_decoder_balance", "pipeline_decoder_devices"),
        *("encoder_kernel_size_list", "decoder_kernel_size_list", "encoder_layers", "decoder_layers"),
        *("conv_layers", "input_layers"),
    ),
    _literal: (
        *("wer_args", "xformers_att_config", "optimizer_overrides", "model_overrides", "epoch2lr", "update2lr"),
        *("encoder_attention", "decoder_attention", "self_attention", "project_input", "gated_attention"),
        *("downsample", "pretrained", "left_pad_source", "left_pad_target", "encoder_glu", "decoder_glu"),
        *("weight_softmax", "sampling_weights", "extra_data", "extra_lang_pairs", "langtoks"),
    ),
    _json: ("eval_bleu_args", "eval_bleu_detok_args", "eval_args"),
}
EVALUATED: dict[str, Callable[[str], str]] = {name: read for read, names in _NAMES.items() for name in names}
