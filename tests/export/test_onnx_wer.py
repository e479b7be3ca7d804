from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import onnx
import pytest
import torch

from ccc_w2v.benchmark.random_ctc import trainer_state
from ccc_w2v.checkpoint import huggingface_tensors
from ccc_w2v.checkpoint.parity import fairseq_outputs
from ccc_w2v.checkpoint.plain import load_plain, to_plain
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.data.labels import read_references
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.decode.ctc_model import load_ctc
from ccc_w2v.decode.transcribe import transcribe
from ccc_w2v.errors import InputError
from ccc_w2v.export import onnx_graph, onnx_wer
from ccc_w2v.score.wer import score
from tests.tiny_ctc import build_ctc, save

TOOL = Path(__file__).parents[2] / "tools" / "export.py"


@pytest.fixture(scope="module")
def large(test_set, tmp_path_factory):
    """A checkpoint of the large style, whose input is normalised and whose padding is masked."""
    style = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}
    state = trainer_state(*build_ctc(test_set.parent, normalize=True, **style))
    return save(state, tmp_path_factory.mktemp("large") / "ctc.pt")


@pytest.fixture(params=["base", "large"])
def source(request, checkpoint, large):
    return {"base": checkpoint, "large": large}[request.param]


def test_graph_takes_any_batch_and_length_and_equals_fairseq(source, test_set, tmp_path):
    manifest = read_manifest(test_set)
    audio = [manifest.audio_path(entry) for entry in manifest.entries[:3]]
    assert "largest difference" in onnx_wer.export_measured(source, tmp_path / "m.onnx", audio)
    session = onnx_graph.open_graph(tmp_path / "m.onnx")
    plain = to_plain(load_checkpoint(source))
    model, _ = load_plain(plain, source)
    generator = torch.Generator().manual_seed(0)
    for utterances, samples in ((1, 400), (1, 7001), (3, 5000), (2, 33333)):
        wave_BS = 0.1 * torch.randn(utterances, samples, generator=generator)
        expected = fairseq_outputs(model, wave_BS)["logits"]
        torch.testing.assert_close(onnx_graph.graph_logits(session, wave_BS), expected, rtol=0, atol=1e-4)
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["symbols"]) == plain["ccc_dictionary"]["symbols"]
    assert json.loads(known["normalize"]) is plain["cfg"]["task"]["normalize"]
    assert (known["sample_rate"], known["blank"], known["post_process"]) == ("16000", "0", "letter")
    onnx.checker.check_model(str(tmp_path / "m.onnx"))


def test_word_error_rate_of_the_graph_is_the_checkpoints(source, test_set, tmp_path):
    manifest = read_manifest(test_set)
    references = dict(zip(utterance_ids(manifest), read_references(manifest), strict=True))
    onnx_wer.export_measured(source, tmp_path / "m.onnx", [manifest.audio_path(manifest.entries[0])])
    rate = onnx_wer.word_error_rate(tmp_path / "m.onnx", to_plain(load_checkpoint(source)), manifest, references)
    texts = transcribe(load_ctc(source), manifest, tmp_path / "journal", {}).texts
    assert rate == score(references, texts).error_rate
    assert any(texts.values())


def test_tool_quantises_and_tells_the_error_rate_before_and_after(checkpoint, test_set, tmp_path, monkeypatch, capsys):
    out = tmp_path / "int8.onnx"
    arguments = ["--to", "onnx", "--checkpoint", str(checkpoint), "--out", str(out), "--manifest", str(test_set)]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments, "--int8"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert runpy.run_path(str(TOOL))["main"]() == 0
    assert "% before, " in capsys.readouterr().out
    graph = onnx.load(str(out))
    assert any(node.op_type == "MatMulInteger" for node in graph.graph.node)
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in graph.graph.initializer)
    assert {prop.key for prop in graph.metadata_props} >= {"symbols", "sample_rate"}
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


def test_graph_that_differs_is_not_written(checkpoint, test_set, tmp_path, monkeypatch):
    swapped = {"attention.k_proj": "self_attn.v_proj", "attention.v_proj": "self_attn.k_proj"}
    monkeypatch.setattr(huggingface_tensors, "_LAYER", {**huggingface_tensors._LAYER, **swapped})
    manifest = read_manifest(test_set)
    with pytest.raises(InputError, match="differ from fairseq's by"):
        onnx_wer.export_measured(checkpoint, tmp_path / "m.onnx", [manifest.audio_path(manifest.entries[0])])
    assert list(tmp_path.iterdir()) == []


def test_pretrained_checkpoint_and_missing_transcripts_are_refused(test_set, checkpoint, tmp_path):
    from tests.export.conftest import pretrained_state

    torch.save(pretrained_state(), tmp_path / "pre.pt")
    with pytest.raises(InputError, match="has no CTC output"):
        onnx_wer.export_measured(tmp_path / "pre.pt", tmp_path / "m.onnx", [])
    alone = tmp_path / "alone.tsv"
    alone.write_text(test_set.read_text())
    with pytest.raises(InputError, match=r"no \.wrd beside it"):
        onnx_wer.export_measured(checkpoint, tmp_path / "m.onnx", [], alone, int8=True)
    with pytest.raises(InputError, match="--manifest"):
        onnx_wer.export_measured(checkpoint, tmp_path / "m.onnx", [], int8=True)
