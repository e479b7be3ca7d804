"""Checkpoints of other origins: the original ccc-wav2vec 2.0, public wav2vec 2.0, flat settings, and malicious ones."""

from __future__ import annotations

import pickle
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import options
from fairseq.data.dictionary import Dictionary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.from_fairseq import import_fairseq
from ccc_w2v.checkpoint.import_any import import_any
from ccc_w2v.checkpoint.plain import load_plain, to_plain
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.errors import InputError
from tests.export.conftest import GONE, Payload, finetuned_state, pretrained_state
from tests.tiny_models import TINY

TOOL = Path(__file__).parents[2] / "tools" / "import.py"


def original(state: dict, *, base_criterion: bool = True) -> dict:
    """Make of a checkpoint of ours one as the original implementation saves it: its keys inside fairseq's sections."""
    cfg = state["cfg"]
    base = cfg["model"].get("w2v_args") or cfg
    base["model"].update(_name="wav2vec2", cluster_factor=16, scale_factor=0.3)
    base["task"] = {key: value for key, value in base["task"].items() if key not in ("augment", "noise_manifest")}
    base["task"].update(_name="audio_pretraining", musan_path=f"{GONE}/musan")
    if base_criterion:
        base["criterion"] = {"_name": "wav2vec", "infonce": True, "loss_weights": [0.1, 10]}
        base["criterion"].update(cc_weights=[1, 0.5, 0.25], log_keys=["temp"])
    return state


def same_tensors(actual: dict, expected: dict) -> bool:
    return actual.keys() == expected.keys() and all(torch.equal(actual[name], expected[name]) for name in expected)


def test_original_pretraining_checkpoint(save, tmp_path):
    state = original(pretrained_state())
    expected = dict(state["model"])
    imported, difference, (out,) = import_any(save(state), tmp_path / "new" / "plain.pt")
    assert imported.kind == "original ccc-wav2vec 2.0 checkpoint, pre-training"
    assert difference is None
    assert imported.unknown == ["task.musan_path", "task.save_dir", "task.world_size"]
    plain = torch.load(out, weights_only=True)
    objective = {"alpha": 1.0, "beta": 0.5, "gamma": 0.25, "cluster_factor": 16, "scale_factor": 0.3}
    assert plain["ccc_export"]["objective"] == {**objective, "near_positives": "scale_similarity"}
    assert plain["cfg"]["criterion"]["loss_weights"] == [0.1, 10]
    assert not {"cluster_factor", "scale_factor"} & plain["cfg"]["model"].keys()
    assert "cc_weights" not in plain["cfg"]["criterion"]
    assert GONE not in repr(plain["cfg"])
    assert same_tensors(plain["model"], expected)
    model, _ = load_plain(to_plain(load_checkpoint(out)), out)
    assert same_tensors(model.state_dict(), expected)


def test_original_finetuned_checkpoint(save, tmp_path):
    state = original(finetuned_state(), base_criterion=False)
    expected = dict(state["model"])
    imported, _, written = import_any(save(state), tmp_path / "new" / "plain.pt")
    assert imported.kind == "original ccc-wav2vec 2.0 checkpoint, fine-tuned"
    assert "model.w2v_args.task.musan_path" in imported.unknown
    assert [path.name for path in written] == ["plain.pt", "dict.ltr.txt"]
    plain = torch.load(written[0], weights_only=True)
    assert plain["ccc_export"]["objective"]["cluster_factor"] == 16
    assert "alpha" not in plain["ccc_export"]["objective"]  # fairseq drops the criterion when it fine-tunes
    assert same_tensors(plain["model"], expected)


def test_checkpoint_of_this_package_is_recognised_too(save):
    imported = import_fairseq(save(pretrained_state()))
    assert imported.kind == "ccc_w2v checkpoint, pre-training"
    assert imported.unknown == []
    assert imported.plain["cfg"] == to_plain(pretrained_state())["cfg"]


def flat_settings(finetuned: bool) -> Namespace:
    """The settings of a checkpoint of the years before hydra, made by fairseq's own command line."""
    parser = options.get_training_parser("audio_pretraining")
    base = [GONE, "--task", "audio_pretraining", "--optimizer", "adam", "--lr", "0.0005", "--adam-betas", "(0.9,0.98)"]
    base += ["--arch", "wav2vec2", "--criterion", "wav2vec", "--infonce", "--loss-weights", "[0.1, 10]"]
    base += ["--log-keys", '["prob_perplexity","temp"]', "--latent-temp", "(2,0.5,0.999995)", "--quantize-targets"]
    base += ["--lr-scheduler", "polynomial_decay", "--max-update", "400000", "--max-tokens", "1400000"]
    for name in ("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads", "conv_pos"):
        base += [f"--{name.replace('_', '-')}", str(TINY[name])]
    for name in ("conv_feature_layers", "conv_pos_groups", "final_dim", "latent_vars", "num_negatives"):
        base += [f"--{name.replace('_', '-')}", str(TINY[name])]
    args = options.parse_args_and_arch(parser, base)
    args.long_gone_switch = True
    if not finetuned:
        return args
    tuned = Namespace(**vars(args))
    tuned.arch, tuned.criterion, tuned.labels, tuned.post_process = "wav2vec_ctc", "ctc", "ltr", "letter"
    tuned.w2v_path, tuned.w2v_args, tuned.apply_mask, tuned.mask_prob = f"{GONE}/base.pt", args, True, 0.4
    tuned.zero_infinity, tuned.final_dropout, tuned.layerdrop, tuned.feature_grad_mult = True, 0.1, 0.05, 0.0
    return tuned


def flat(state: dict, finetuned: bool) -> dict:
    state = {**state, "args": flat_settings(finetuned), "cfg": None}
    state["extra_state"] = {"val_loss": np.float64(1.5), "best": np.float32(0.5)}
    return state


def test_flat_settings_of_a_public_pretraining_checkpoint(save, tmp_path):
    state = flat(pretrained_state(), finetuned=False)
    expected = dict(state["model"])
    imported, _, (out,) = import_any(save(state), tmp_path / "new" / "plain.pt")
    assert imported.kind == "fairseq wav2vec 2.0 checkpoint, pre-training"
    assert imported.unknown == ["long_gone_switch"]
    cfg = torch.load(out, weights_only=True)["cfg"]
    assert cfg["model"]["latent_temp"] == [2, 0.5, 0.999995]
    assert cfg["model"]["conv_feature_layers"] == repr(parse_conv_layers(TINY["conv_feature_layers"]))
    assert cfg["criterion"]["loss_weights"] == [0.1, 10]
    assert cfg["criterion"]["infonce"] is True
    assert cfg["optimization"]["max_update"] == 400_000
    assert GONE not in repr(cfg)
    assert imported.plain["ccc_export"]["recipe"]["dataset.max_tokens"] == 1_400_000
    assert same_tensors(imported.plain["model"], expected)


def test_flat_settings_of_a_public_finetuned_checkpoint(save, tmp_path):
    state = flat(finetuned_state(), finetuned=True)
    dictionary = state.pop("task_state")["target_dictionary"]
    expected, source = dict(state["model"]), save(state)
    with pytest.raises(InputError, match="--dictionary"):
        import_fairseq(source)
    dictionary.save(str(tmp_path / "dict.ltr.txt"))
    imported, _, written = import_any(source, tmp_path / "new" / "plain.pt", dictionary=tmp_path / "dict.ltr.txt")
    assert imported.plain["ccc_dictionary"]["symbols"] == dictionary.symbols
    assert imported.plain["cfg"]["model"]["mask_prob"] == 0.4
    assert same_tensors(imported.plain["model"], expected)
    assert written[1].read_text() == (tmp_path / "dict.ltr.txt").read_text()
    short = Dictionary()
    short.add_symbol("|")
    short.save(str(tmp_path / "short.txt"))
    with pytest.raises(InputError, match="vocabulary does not fit: the dictionary has 5 symbols, the output layer 18"):
        import_fairseq(source, tmp_path / "short.txt")


def test_old_checkpoint_is_sent_to_the_import_tool_by_the_others(save):
    with pytest.raises(InputError, match="import it once with ccc-w2v import"):
        load_checkpoint(save(flat(pretrained_state(), finetuned=False)))


def test_checkpoint_of_an_earlier_fairseq_gets_the_defaults_of_what_came_later(save):
    state = original(pretrained_state())
    for name in ("pos_conv_depth", "layer_type", "crop_seq_to_multiple"):
        del state["cfg"]["model"][name]
    assert import_fairseq(save(state)).plain["cfg"]["model"]["pos_conv_depth"] == 1


@pytest.mark.parametrize("where", ["cfg", "args", "task_state", "extra_state"])
def test_payload_of_a_malicious_checkpoint_never_runs(where, tmp_path, monkeypatch):
    ran, path = tmp_path / "ran", tmp_path / "evil.pt"
    state = {**pretrained_state(), where: {"x": Payload(ran)}}
    # Even where the environment turns torch's own protection off.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save(state, path)
    with pytest.raises(InputError, match=r"pickles posix\.system"):
        import_any(path, tmp_path / "out.pt")
    assert not ran.exists()
    assert not (tmp_path / "out.pt").exists()
    pickle.loads(pickle.dumps(Payload(ran)))
    assert ran.exists()  # the payload is a real one


def test_code_in_the_settings_is_never_run(save, tmp_path):
    state = flat(pretrained_state(), finetuned=False)
    for name in ("conv_feature_layers", "latent_temp", "loss_weights"):
        setattr(state["args"], name, f"open({str(tmp_path / 'ran')!r}, 'w') or [(32, 10, 5)]")
    with pytest.raises(InputError, match="conv_feature_layers|latent_temp"):
        import_fairseq(save(state))
    assert not (tmp_path / "ran").exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.0, 0.999))
def test_checkpoint_cut_anywhere_is_one_line(share, save):
    path = save(pretrained_state())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="not a readable fairseq checkpoint") as caught:
        import_fairseq(path)
    assert "\n" not in str(caught.value)


SHAPES = {
    "cfg": ["text", {"model": "text"}, {"model": {"_name": "wav2vec2"}, "task": [], "criterion": None}],
    "model": [["text"], {"x": "text"}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SHAPES.items() for value in values])
def test_file_of_another_shape_is_one_line(key, value, save):
    with pytest.raises(InputError, match="settings are not fairseq's|not a table of tensors"):
        import_fairseq(save({**pretrained_state(), key: value}))


def test_other_models_and_damaged_files_are_refused(save, tmp_path):
    state = pretrained_state()
    state["cfg"]["model"]["_name"] = "hubert"
    with pytest.raises(InputError, match="'hubert' cannot be imported"):
        import_fairseq(save(state))
    state = flat(pretrained_state(), finetuned=False)
    state["args"].arch = "transformer"
    with pytest.raises(InputError, match="'transformer' of task 'audio_pretraining'"):
        import_fairseq(save(state))
    path = save(pretrained_state())
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match="not a readable fairseq checkpoint"):
        import_fairseq(path)


def test_tool_says_what_it_found(save, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out" / "plain.pt"
    monkeypatch.setattr(sys, "argv", ["import.py", str(save(original(pretrained_state()))), "--out", str(out)])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert runpy.run_path(str(TOOL))["main"]() == 0
    printed = capsys.readouterr().out
    assert "original ccc-wav2vec 2.0 checkpoint, pre-training" in printed
    assert "settings unknown to fairseq, ignored: task.musan_path" in printed
    assert "objective's gamma: 0.25" in printed
    assert f"checkpoint.finetune_from_model={out}" in printed
    assert runpy.run_path(str(TOOL))["main"]() == 2
    assert capsys.readouterr().err.startswith(f"error: {out}: exists already")
