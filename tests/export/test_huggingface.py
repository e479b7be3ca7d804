from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("transformers")

from transformers import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Processor

from ccc_w2v.checkpoint import huggingface_tensors
from ccc_w2v.checkpoint.huggingface_config import transformers_config
from ccc_w2v.checkpoint.plain import export_plain, load_plain, to_plain
from ccc_w2v.data.audio import read_audio
from ccc_w2v.decode.greedy import greedy, to_words
from ccc_w2v.errors import InputError
from ccc_w2v.export import huggingface
from ccc_w2v.export.huggingface import export_huggingface
from tests.export.conftest import LETTERS, STYLES, finetuned_state, pretrained_state, run_fresh
from tests.fake_corpora import RATE, write_corpus

TOOL = Path(__file__).parents[2] / "tools" / "export.py"
FILES = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
TOKENIZER_FILES = {"vocab.json", "tokenizer_config.json"}

LOAD = """
import torch
from transformers import AutoFeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Model
wave = torch.load("wave", weights_only=True)
found = {}
with torch.no_grad():
    for name in sys.argv[1:]:
        AutoFeatureExtractor.from_pretrained(name)
        found[name] = Wav2Vec2Model.from_pretrained(name).eval()(wave).last_hidden_state
        if name.startswith("finetuned"):
            found[name] = Wav2Vec2ForCTC.from_pretrained(name).eval()(wave).logits
torch.save(found, "found")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, dict]:
    """Folders of both kinds and styles, each with its plain state, its report and what a new process computes of it."""
    folder = tmp_path_factory.mktemp("folders")
    manifest = write_corpus(folder, [16001, 12000, 7000])
    recordings = sorted((manifest.parent / "audio").iterdir())
    cases = {}
    for make in (pretrained_state, finetuned_state):
        for style in STYLES:
            name = f"{make.__name__}-{style}"
            torch.save(make(style), folder / "checkpoint.pt")
            report = export_huggingface(folder / "checkpoint.pt", folder / name, recordings)
            cases[name] = {"folder": folder / name, "report": report, "plain": to_plain(make(style))}
            (folder / "checkpoint.pt").unlink()
    wave_S = read_audio(recordings[0], RATE)
    torch.save(wave_S[None], folder / "wave")
    run_fresh(LOAD, *cases, cwd=folder)
    for name, output in torch.load(folder / "found", weights_only=True).items():
        cases[name].update(output=output, wave=wave_S)
    return cases


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["pretrained", "finetuned"])
def test_folder_in_a_new_process_equals_unmodified_fairseq(kind, style, exported):
    case = exported[f"{kind}_state-{style}"]
    model, _ = load_plain(case["plain"], __file__)
    with torch.no_grad():
        if kind == "pretrained":
            expected = model.extract_features(case["wave"][None], None)["x"]
        else:
            expected = model(source=case["wave"][None], padding_mask=None)["encoder_out"].transpose(0, 1)
    assert case["output"].shape == expected.shape
    assert (case["output"] - expected).abs().max() <= 1e-5
    assert case["report"]["difference"] <= 1e-5
    assert case["report"]["recordings"] == 3


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["pretrained", "finetuned"])
def test_folder_holds_what_transformers_expects(kind, style, exported):
    folder = exported[f"{kind}_state-{style}"]["folder"]
    names = {path.name for path in folder.iterdir()}
    assert names >= FILES | (TOKENIZER_FILES if kind == "finetuned" else set())
    config = json.loads((folder / "config.json").read_text())
    extractor = json.loads((folder / "preprocessor_config.json").read_text())
    large = style == "large"
    assert config["architectures"] == ["Wav2Vec2ForPreTraining" if kind == "pretrained" else "Wav2Vec2ForCTC"]
    assert config["feat_extract_norm"] == ("layer" if large else "group")
    assert config["do_stable_layer_norm"] is config["conv_bias"] is large
    assert extractor["do_normalize"] is extractor["return_attention_mask"] is large
    assert extractor["sampling_rate"] == RATE
    if kind == "finetuned":
        assert config["vocab_size"] == 4 + len(LETTERS)
        assert config["mask_time_prob"] == 0.5
        assert config["ctc_zero_infinity"] is True
    else:
        assert config["mask_time_prob"] == 0.65
        assert config["diversity_loss_weight"] == 0.2
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("style", STYLES)
def test_processor_reads_what_our_greedy_search_reads(style, exported):
    case = exported[f"finetuned_state-{style}"]
    processor = Wav2Vec2Processor.from_pretrained(case["folder"], local_files_only=True)
    symbols = case["plain"]["ccc_dictionary"]["symbols"]
    generator = torch.Generator().manual_seed(0)
    # Ordinary symbols and blanks in runs: a trained model emits no other special symbol.
    allowed = [0, *range(4, len(symbols))]
    for _ in range(20):
        draws = torch.randint(len(allowed), (60,), generator=generator).repeat_interleave(3)[: 60 + 40]
        ids = torch.tensor(allowed)[draws]
        logits_TV = torch.nn.functional.one_hot(ids, len(symbols)).float()
        expected = to_words(greedy(logits_TV, blank=0), symbols)
        assert processor.batch_decode(logits_TV.argmax(-1)[None])[0].split() == expected
    assert processor.tokenizer.pad_token_id == 0


@pytest.mark.parametrize("style", STYLES)
def test_labels_encode_to_fairseqs_indices(style, exported):
    case = exported[f"finetuned_state-{style}"]
    processor = Wav2Vec2Processor.from_pretrained(case["folder"], local_files_only=True)
    symbols = case["plain"]["ccc_dictionary"]["symbols"]
    ids = processor.tokenizer("SHE'D READ").input_ids
    assert [symbols[index] for index in ids] == list("SHE'D|READ")


def test_feature_extractor_is_exact_without_normalisation_and_told_with_it(exported):
    assert exported["finetuned_state-base"]["report"]["as_used"] <= 1e-5
    large = exported["finetuned_state-large"]
    assert 0 < large["report"]["as_used"] < 0.1
    assert f"{large['report']['as_used']:.1e}" in (large["folder"] / "README.md").read_text()


def test_plain_export_gives_the_same_folder(save, recordings, tmp_path):
    source = save(finetuned_state())
    export_plain(source, tmp_path / "plain" / "plain.pt")
    for name, checkpoint in (("a", source), ("b", tmp_path / "plain" / "plain.pt")):
        export_huggingface(checkpoint, tmp_path / name, recordings[:1])
    for file in ("config.json", "model.safetensors", "vocab.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_width_of_the_convolutions_gets_an_identity_projection(save, recordings, tmp_path):
    state = pretrained_state(encoder_embed_dim=32)
    assert "post_extract_proj.weight" not in state["model"]
    report = export_huggingface(save(state), tmp_path / "out", recordings[:1])
    assert report["difference"] <= 1e-5
    model = Wav2Vec2ForPreTraining.from_pretrained(tmp_path / "out", local_files_only=True)
    assert torch.equal(model.wav2vec2.feature_projection.projection.weight, torch.eye(32))


@pytest.mark.parametrize("settings", [{"apply_mask": False}, {"mask_prob": 0.0, "mask_channel_prob": 0.0}])
def test_mask_embedding_survives_a_fine_tuning_without_masks(settings, save, recordings, tmp_path):
    state = finetuned_state(**settings)
    export_huggingface(save(state), tmp_path / "out", recordings[:1])
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "out", local_files_only=True)
    assert torch.equal(model.wav2vec2.masked_spec_embed, state["model"]["w2v_encoder.w2v_model.mask_emb"])
    assert model.config.apply_spec_augment is False


def test_swapped_tensors_are_refused_and_nothing_is_written(save, recordings, tmp_path, monkeypatch):
    swapped = {"attention.k_proj": "self_attn.v_proj", "attention.v_proj": "self_attn.k_proj"}
    monkeypatch.setattr(huggingface_tensors, "_LAYER", {**huggingface_tensors._LAYER, **swapped})
    with pytest.raises(InputError, match=r"layer \d .*differs from fairseq's by \d"):
        export_huggingface(save(pretrained_state()), tmp_path / "new" / "out", recordings)
    assert not (tmp_path / "new").exists()


def test_folder_that_reads_back_differently_is_not_published(save, recordings, tmp_path, monkeypatch):
    write = huggingface._write_model

    def damaged(folder, model, *others):
        with torch.no_grad():
            model.lm_head.bias[3] += 1e-2
        write(folder, model, *others)

    monkeypatch.setattr(huggingface, "_write_model", damaged)
    with pytest.raises(InputError, match="folder read back"):
        export_huggingface(save(finetuned_state()), tmp_path / "new" / "out", recordings[:1])
    assert list((tmp_path / "new").iterdir()) == []


def test_every_tensor_is_accounted_for():
    plain = to_plain(finetuned_state())
    model = Wav2Vec2ForCTC(transformers_config(plain["cfg"], 4 + len(LETTERS)))
    tensors = dict(plain["model"])
    tensors["w2v_encoder.w2v_model.encoder.surplus"] = torch.zeros(1)
    with pytest.raises(InputError, match="encoder.surplus has no place"):
        huggingface_tensors.fill(model, tensors, finetuned=True)
    tensors = dict(plain["model"])
    del tensors["w2v_encoder.proj.bias"]
    with pytest.raises(InputError, match=r"w2v_encoder\.proj\.bias is not in.*lm_head\.bias is not filled"):
        huggingface_tensors.fill(model, tensors, finetuned=True)
    tensors = {**plain["model"], "w2v_encoder.proj.bias": torch.zeros(3)}
    with pytest.raises(InputError, match=r"proj\.bias is \(3,\)"):
        huggingface_tensors.fill(model, tensors, finetuned=True)


UNSUPPORTED = {
    "quantize_input": True,
    "layer_type": "conformer",
    "pos_conv_depth": 5,
    "target_glu": True,
    "negatives_from_everywhere": True,
    "cross_sample_negatives": 5,
    "codebook_negatives": 5,
    "quantize_targets": False,
    "quantizer_depth": 2,
    "crop_seq_to_multiple": 2,
    "activation_fn": "tanh",
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_settings_are_named(name):
    cfg = to_plain(pretrained_state())["cfg"]
    cfg["model"][name] = UNSUPPORTED[name]
    with pytest.raises(InputError, match=f"model.{name}: .*{UNSUPPORTED[name]}"):
        transformers_config(cfg)


def test_pretraining_heads_settings_do_not_hinder_a_finetuned_model():
    cfg = to_plain(finetuned_state())["cfg"]
    cfg["model"]["w2v_args"]["model"]["codebook_negatives"] = 5
    assert transformers_config(cfg, 18).vocab_size == 18
    cfg["model"]["blank_weight"] = 2.0
    with pytest.raises(InputError, match="model.blank_weight"):
        transformers_config(cfg, 18)


def test_dictionary_without_word_boundaries_is_refused(save, recordings, tmp_path):
    with pytest.raises(InputError, match=r"no '\|'"):
        export_huggingface(save(finetuned_state(letters="ABC")), tmp_path / "new" / "out", recordings[:1])
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("audio", [None, []])
def test_no_recording_is_refused(audio, save, tmp_path):
    with pytest.raises(InputError, match="--audio"):
        export_huggingface(save(pretrained_state()), tmp_path / "out", audio)


def test_recordings_of_another_rate_or_too_short_are_refused(save, tmp_path):
    for rate, samples, message in ((8000, 8000, "8000 Hz"), (RATE, 300, "the minimum is 400")):
        soundfile.write(tmp_path / "x.wav", np.full(samples, 0.1, dtype=np.float32), rate)
        with pytest.raises(InputError, match=message):
            export_huggingface(save(pretrained_state()), tmp_path / "out", [tmp_path / "x.wav"])
    assert not (tmp_path / "out").exists()


def test_existing_folder_is_kept_until_the_new_one_is_whole(save, recordings, tmp_path, monkeypatch):
    source, out = save(pretrained_state()), tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        export_huggingface(source, out, recordings[:1])
    with monkeypatch.context() as patch:
        patch.setattr(huggingface.card, "model_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export_huggingface(source, out, recordings[:1], overwrite=True)
    assert [path.name for path in out.iterdir()] == ["precious"]
    export_huggingface(source, out, recordings[:1], overwrite=True)
    assert {path.name for path in out.iterdir()} == FILES
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_tool_writes_a_folder_from_a_manifest(save, tmp_path, monkeypatch, capsys):
    manifest = write_corpus(tmp_path / "corpus", [8000] * 6)
    score = tmp_path / "test-clean" / "score.json"
    score.parent.mkdir()
    score.write_text(json.dumps({"utterances": 9, "wer": {"rate": 0.0612, "units": 88, "interval": [0.05, 0.07]}}))
    arguments = ["--to", "huggingface", "--checkpoint", str(save(finetuned_state())), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments, "--manifest", str(manifest), "--wer", str(score)])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert runpy.run_path(str(TOOL))["main"]() == 0
    assert "on 4 recording(s)" in capsys.readouterr().out
    assert "| test-clean/score.json | 9 | 88 | 6.12% |" in (tmp_path / "out" / "README.md").read_text()
