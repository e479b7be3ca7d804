"""A fine-tuned model -> an ONNX graph of dynamic batch and length, checked in onnxruntime against fairseq.

Inputs: ``wave`` (B, S) float32, normalised where the metadata say so; ``mask`` (B, S) int64, 1 in speech, 0 in padding.
Output: ``logits`` (B, T, V). The metadata hold sample_rate, normalize, blank, post_process and the symbols as JSON.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from ccc_w2v.checkpoint import parity
from ccc_w2v.checkpoint.huggingface_config import BLANK
from ccc_w2v.errors import InputError

TOLERANCE = 1e-3
OPSET = 17
_DYNAMIC = {"wave": ("batch", "samples"), "mask": ("batch", "samples"), "logits": ("batch", "frames")}


class _Logits(torch.nn.Module):
    """A transformers model with plain tensors in and out, as a graph has them."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, wave: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model(wave, attention_mask=mask).logits


def write_graph(model: Any, plain: dict[str, Any], path: Path) -> None:
    """Trace a transformers CTC model into an ONNX file at ``path``, with what a user must know as metadata."""
    onnx = _import("onnx")
    model.set_attn_implementation("eager")
    # Not a multiple of anything, and one padded row: no length or mask may end up in the graph as a constant.
    wave_BS = 0.1 * torch.randn(2, 16001, generator=torch.Generator().manual_seed(0))
    mask_BS = torch.ones(2, 16001, dtype=torch.long)
    mask_BS[1, 9001:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about traced shapes: largest_difference is the judge of these
        torch.onnx.export(
            _Logits(model).eval(),
            (wave_BS, mask_BS),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["wave", "mask"],
            output_names=["logits"],
            dynamic_axes={name: dict(enumerate(axes)) for name, axes in _DYNAMIC.items()},
        )
    graph = onnx.load(str(path))
    task = plain["cfg"]["task"]
    known = {
        "sample_rate": str(task["sample_rate"]),
        "normalize": json.dumps(bool(task["normalize"])),
        "blank": str(BLANK),
        "post_process": post_process(plain),
        "symbols": json.dumps(plain["ccc_dictionary"]["symbols"], ensure_ascii=False),
    }
    onnx.helper.set_model_props(graph, known)
    with open(path, "wb") as file:
        file.write(graph.SerializeToString())


def post_process(plain: dict[str, Any]) -> str:
    """Return how the symbols of a plain fine-tuned state become words: "letter" or "sentencepiece"."""
    return plain["cfg"]["criterion"].get("post_process") or "letter"


def quantize(source: Path, target: Path) -> None:
    """Write ``source`` to ``target`` with the weights of its matrix products in int8, scaled by output channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def open_graph(path: Path) -> Any:
    """Return an onnxruntime session on the CPU, with as many threads as torch."""
    onnxruntime = _import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def graph_logits(session: Any, wave_BS: torch.Tensor, mask_BS: torch.Tensor | None = None) -> torch.Tensor:
    """Run a session; returns logits (B, T, V)."""
    mask_BS = torch.ones(wave_BS.shape, dtype=torch.long) if mask_BS is None else mask_BS
    return torch.from_numpy(session.run(["logits"], {"wave": wave_BS.numpy(), "mask": mask_BS.numpy()})[0])


def largest_difference(session: Any, fairseq_model: Any, waves: Sequence[torch.Tensor]) -> float:
    """Compare the logits with fairseq's on each wave (S,) alone, then on all in one padded batch, valid frames only."""
    found = [parity.distance(_fairseq_logits(fairseq_model, w[None]), graph_logits(session, w[None])) for w in waves]
    # A shorter copy, so that something is padded even where all recordings are of one length.
    rows = [*waves, waves[0][: len(waves[0]) * 3 // 4]]
    wave_BS = pad_sequence(rows, batch_first=True)
    padding_BS = torch.arange(wave_BS.size(1)) >= torch.tensor([len(row) for row in rows])[:, None]
    reference = _fairseq_logits(fairseq_model, wave_BS, padding_BS)
    exported = graph_logits(session, wave_BS, (~padding_BS).long())
    base = fairseq_model.w2v_encoder.w2v_model
    frames = base._get_feat_extract_output_lengths(torch.tensor([len(row) for row in rows])).tolist()
    found += [
        parity.distance(expected[:valid], output[:valid])
        for expected, output, valid in zip(reference, exported, frames, strict=True)
    ]
    return max(found)


def check(difference: float) -> None:
    """Raise InputError when a difference exceeds TOLERANCE."""
    if not difference <= TOLERANCE:
        raise InputError(
            f"onnxruntime's logits differ from fairseq's by {difference:.2e}, limit {TOLERANCE:.0e}; nothing was "
            "written"
        )


@torch.no_grad()
def _fairseq_logits(model: Any, wave_BS: torch.Tensor, padding_BS: torch.Tensor | None = None) -> torch.Tensor:
    return model(source=wave_BS, padding_mask=padding_BS)["encoder_out"].transpose(0, 1)


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} cannot be imported ({error}); pip install 'ccc-w2v[onnx]'") from error
