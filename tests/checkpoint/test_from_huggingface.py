from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC

from ccc_w2v.checkpoint import from_huggingface, huggingface_tensors
from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.huggingface_config import fairseq_settings, transformers_config
from ccc_w2v.checkpoint.import_any import import_any
from ccc_w2v.checkpoint.parity import fairseq_outputs, transformers_outputs
from ccc_w2v.checkpoint.plain import load_plain, to_plain
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.errors import InputError
from ccc_w2v.export.huggingface import export_huggingface
from tests.export.conftest import STYLES, Payload, finetuned_state, pretrained_state

MAKERS = {"pretrained": pretrained_state, "finetuned": finetuned_state}


@pytest.fixture
def exported(request, save, recordings, tmp_path):
    """A folder of the requested kind and style."""
    kind, style = getattr(request, "param", ("pretrained", "base"))
    export_huggingface(save(MAKERS[kind](style)), tmp_path / "folder", recordings[:1])
    return tmp_path / "folder"


@pytest.mark.parametrize("exported", [(kind, style) for kind in MAKERS for style in STYLES], indirect=True)
def test_round_trip_gives_identical_tensors_and_settings(exported, recordings, tmp_path, request):
    kind, style = request.node.callspec.params["exported"]
    imported, difference, written = import_any(exported, tmp_path / "new" / "back.pt", sample_audio=recordings)
    assert imported.kind.startswith("transformers folder")
    assert difference.value <= 1e-5
    original = to_plain(MAKERS[kind](style))
    plain = torch.load(written[0], weights_only=True)
    assert plain["model"].keys() == original["model"].keys()
    assert all(torch.equal(plain["model"][name], tensor) for name, tensor in original["model"].items())
    assert plain["cfg"]["task"]["normalize"] == original["cfg"]["task"]["normalize"]
    assert plain["cfg"]["model"].get("w2v_path", "") == ""
    if kind == "finetuned":
        assert plain["ccc_dictionary"]["symbols"] == original["ccc_dictionary"]["symbols"]
    export_huggingface(written[0], tmp_path / "again", recordings[:1])
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


@pytest.mark.parametrize("exported", [("finetuned", "base")], indirect=True)
def test_output_layer_in_another_order_gives_the_same_logits_by_symbol(exported, recordings, tmp_path):
    vocabulary = json.loads((exported / "vocab.json").read_text())
    tensors = load_file(exported / "model.safetensors")
    order = torch.randperm(len(vocabulary), generator=torch.Generator().manual_seed(1))
    for name in ("lm_head.weight", "lm_head.bias"):
        tensors[name] = tensors[name][order].contiguous()
    save_file(tensors, exported / "model.safetensors", metadata={"format": "pt"})
    shuffled = {token: order.tolist().index(index) for token, index in vocabulary.items()}
    (exported / "vocab.json").write_text(json.dumps(shuffled))
    settings = json.loads((exported / "tokenizer_config.json").read_text())
    added = settings["added_tokens_decoder"].values()
    settings["added_tokens_decoder"] = {str(shuffled[token["content"]]): token for token in added}
    (exported / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((exported / "config.json").read_text())
    config.update(pad_token_id=shuffled["<pad>"])
    (exported / "config.json").write_text(json.dumps(config))
    _, _, (out, _) = import_any(exported, tmp_path / "new" / "back.pt", sample_audio=recordings[:1])
    model, task = load_plain(to_plain(load_checkpoint(out)), out)
    wave = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    theirs = transformers_outputs(Wav2Vec2ForCTC.from_pretrained(exported).eval(), wave)["logits"]
    ours = fairseq_outputs(model, wave)["logits"]
    traded = {"<pad>": "<s>", "<s>": "<pad>"}
    for token, index in shuffled.items():
        torch.testing.assert_close(
            ours[..., task.target_dictionary.index(traded.get(token, token))], theirs[..., index]
        )


@pytest.mark.parametrize("exported", [("finetuned", "base")], indirect=True)
def test_published_folder_without_its_mask_embedding_is_imported_and_that_is_told(exported, recordings):
    weights = exported / "model.safetensors"
    tensors = load_file(weights)
    del tensors["wav2vec2.masked_spec_embed"]
    save_file(tensors, weights, {"format": "pt"})
    imported, _ = from_huggingface.import_huggingface(exported, recordings[:1])
    assert imported.lacking == ["wav2vec2.masked_spec_embed"]
    assert not imported.plain["model"]["w2v_encoder.w2v_model.mask_emb"].any()
    del tensors["lm_head.bias"]
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(InputError, match=r"missing.*lm_head\.bias"):
        from_huggingface.import_huggingface(exported, recordings[:1])


@pytest.mark.parametrize("exported", [("finetuned", "base")], indirect=True)
def test_blank_that_is_not_certain_is_refused(exported, recordings):
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps({**config, "pad_token_id": 5}))
    with pytest.raises(InputError, match="CTC blank is not certain: pad_token_id is 5 in config.json, 0 in the token"):
        from_huggingface.import_huggingface(exported, recordings[:1])


def test_imported_encoder_differs_where_a_tensor_was_swapped(exported, recordings, tmp_path, monkeypatch):
    swapped = {"attention.k_proj": "self_attn.v_proj", "attention.v_proj": "self_attn.k_proj"}
    monkeypatch.setattr(huggingface_tensors, "_LAYER", {**huggingface_tensors._LAYER, **swapped})
    with pytest.raises(InputError, match="differs from fairseq's"):
        import_any(exported, tmp_path / "new" / "back.pt", sample_audio=recordings)
    assert not (tmp_path / "new").exists()


SETTINGS = st.fixed_dictionaries(
    {
        "extractor_mode": st.sampled_from(["default", "layer_norm"]),
        "layer_norm_first": st.booleans(),
        "conv_bias": st.booleans(),
        "activation_fn": st.sampled_from(["gelu", "relu"]),
        "conv_feature_layers": st.sampled_from(
            ["[(8,10,5)] + [(8,3,2)]*4", "[(512,10,5)] + [(512,3,2)]*4 + [(512,2,2)]*2"]
        ),
        "encoder_layers": st.integers(1, 24),
        "encoder_attention_heads": st.sampled_from([1, 2, 4]),
        "encoder_ffn_embed_dim": st.integers(1, 4096),
        "final_dim": st.integers(0, 256),
        "latent_dim": st.integers(0, 256),
        "latent_vars": st.integers(2, 320),
        "mask_prob": st.sampled_from([0.0, 0.5, 0.65]),
        "mask_channel_prob": st.sampled_from([0.0, 0.25]),
        "dropout_input": st.sampled_from([0.0, 0.1]),
        "logit_temp": st.sampled_from([0.1, 0.2]),
    }
)


@settings(max_examples=20, deadline=None)
@given(SETTINGS)
def test_settings_come_back_from_transformers_as_they_went(changed):
    cfg = to_plain(pretrained_state())["cfg"]
    cfg["model"].update(changed)
    config = transformers_config(cfg)
    back = fairseq_settings(config, finetuned=False, normalize=False, sample_rate=16000)
    expected = {**changed, "conv_feature_layers": parse_conv_layers(changed["conv_feature_layers"])}
    # 0 stands for another width there, and names it here.
    projected = expected["final_dim"] or cfg["model"]["encoder_embed_dim"]
    expected.update(final_dim=projected, latent_dim=expected["latent_dim"] or projected)
    restored = {name: back["model"][name] for name in changed}
    assert {**restored, "conv_feature_layers": parse_conv_layers(restored["conv_feature_layers"])} == expected
    again = transformers_config({**back, "model": {**cfg["model"], **back["model"]}})
    assert again.to_dict() == config.to_dict()


def test_payload_in_a_pickled_weights_file_never_runs(exported, recordings, tmp_path):
    tensors = load_file(exported / "model.safetensors")
    (exported / "model.safetensors").unlink()
    torch.save(tensors, exported / "pytorch_model.bin")
    from_huggingface.import_huggingface(exported, recordings[:1])  # pickled weights as such are read
    torch.save({**tensors, "x": Payload(tmp_path / "ran")}, exported / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load it"):
        from_huggingface.import_huggingface(exported, recordings[:1])
    assert not (tmp_path / "ran").exists()


CHANGES = {
    "model_type": ("hubert", "type 'hubert'"),
    "architectures": (["Wav2Vec2Model"], "an encoder alone has no codebook"),
    "add_adapter": (True, "missing, left over|add_adapter"),
    "layer_norm_eps": (1e-3, "layer_norm_eps: fairseq knows only 1e-05"),
    "feat_extract_activation": ("relu", "feat_extract_activation"),
    "hidden_act": ("gelu_new", "hidden_act: expected one of gelu, relu"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_fairseq_cannot_express_is_refused(name, exported, recordings):
    value, message = CHANGES[name]
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(InputError, match=message):
        from_huggingface.import_huggingface(exported, recordings[:1])


def test_damaged_folders_are_refused(exported, recordings, tmp_path):
    weights = exported / "model.safetensors"
    whole = weights.read_bytes()
    tensors = load_file(weights)
    weights.write_bytes(whole[:-1000])
    with pytest.raises(InputError, match="transformers cannot load it"):
        from_huggingface.import_huggingface(exported, recordings[:1])
    save_file({name: t for name, t in tensors.items() if name != "quantizer.codevectors"}, weights, {"format": "pt"})
    with pytest.raises(InputError, match=r"missing.*quantizer\.codevectors"):
        from_huggingface.import_huggingface(exported, recordings[:1])
    weights.write_bytes(whole)
    with pytest.raises(InputError, match="--audio"):
        from_huggingface.import_huggingface(exported, [])
    (exported / "config.json").write_text("{")
    with pytest.raises(InputError, match="not a transformers configuration"):
        from_huggingface.import_huggingface(exported, recordings[:1])
    shutil.rmtree(exported)
    exported.mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        from_huggingface.import_huggingface(exported, recordings[:1])
