from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq.data.dictionary import Dictionary
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ccc_w2v.checkpoint import plain as module
from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.plain import export_plain, to_plain
from ccc_w2v.errors import InputError
from tests.export.conftest import GONE, LETTERS, STYLES, finetuned_state, pretrained_state, run_fresh
from tests.fake_corpora import speech_like
from tests.tiny_models import tiny_ccc

TOOL = Path(__file__).parents[2] / "tools" / "export.py"

LOAD = """
import json, os, torch
from fairseq.checkpoint_utils import load_model_ensemble_and_task
source = torch.load("wave", weights_only=True)
found = []
for path, data, cwd in json.load(open("jobs")):
    os.chdir(cwd)
    (model,), cfg, task = load_model_ensemble_and_task([path], arg_overrides={"data": data} if data else None)
    finetuned = hasattr(model, "w2v_encoder")
    with torch.no_grad():
        model.eval()
        result = model(source=source, padding_mask=None) if finetuned else model.extract_features(source, None)
    symbols = task.target_dictionary.symbols if finetuned else None
    output = result["encoder_out" if finetuned else "x"]
    found.append({"model": type(model).__name__, "task": type(task).__name__, "symbols": symbols, "output": output})
torch.save(found, sys.argv[1])
"""


def wave() -> torch.Tensor:
    return torch.from_numpy(speech_like(9000, 3))[None]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> dict[str, dict]:
    """What unmodified fairseq finds in our exports; one new process loads them all, for the sake of time."""
    folder = tmp_path_factory.mktemp("exports")
    ours = pretrained_state()
    ours["model"] = tiny_ccc(seed=5).state_dict()
    states = {
        f"{make.__name__} {style}": make(style) for make in (pretrained_state, finetuned_state) for style in STYLES
    }
    jobs = {}
    for name, state in {**states, "ours": ours}.items():
        torch.save(state, folder / "checkpoint.pt")
        out = folder / name / "plain.pt"
        export_plain(folder / "checkpoint.pt", out)
        (folder / "checkpoint.pt").unlink()
        finetuned = name.startswith("finetuned")
        jobs[name] = (str(out), str(out.parent) if finetuned else None, str(folder))
        if finetuned:
            # Alone in a folder that was empty: nothing else of the training is there.
            moved = folder / f"{name}, moved"
            shutil.copytree(out.parent, moved)
            jobs[f"{name}, where it lies"] = ("plain.pt", None, str(moved))
    (folder / "jobs").write_text(json.dumps(list(jobs.values())))
    torch.save(wave(), folder / "wave")
    run_fresh(LOAD, folder / "found", cwd=folder)
    return dict(zip(jobs, torch.load(folder / "found", weights_only=True), strict=True))


@pytest.mark.parametrize("style", STYLES)
def test_unmodified_fairseq_loads_a_pretrained_export_and_computes_the_same(style, loaded):
    state = pretrained_state(style)
    model = Wav2Vec2Model.build_model(OmegaConf.create(state["cfg"]["model"])).eval()
    model.load_state_dict(state["model"], strict=True)
    with torch.no_grad():
        expected = model.extract_features(wave(), None)["x"]
    actual = loaded[f"pretrained_state {style}"]
    assert (actual["model"], actual["task"]) == ("Wav2Vec2Model", "AudioPretrainingTask")
    assert torch.equal(actual["output"], expected)


@pytest.mark.parametrize("where", ["", ", where it lies"])
@pytest.mark.parametrize("style", STYLES)
def test_unmodified_fairseq_loads_a_finetuned_export_beside_its_dictionary(style, where, loaded):
    state = finetuned_state(style)
    encoder = Wav2Vec2Model.build_model(OmegaConf.create(state["cfg"]["model"]["w2v_args"]["model"])).eval()
    prefix = "w2v_encoder.w2v_model."
    tensors = {name.removeprefix(prefix): t for name, t in state["model"].items() if name.startswith(prefix)}
    encoder.load_state_dict(tensors, strict=False)
    with torch.no_grad():
        context_TBD = encoder.extract_features(wave(), None)["x"].transpose(0, 1)
        head = [state["model"][f"w2v_encoder.proj.{name}"] for name in ("weight", "bias")]
        expected = torch.nn.functional.linear(context_TBD, *head)
    actual = loaded[f"finetuned_state {style}{where}"]
    assert (actual["model"], actual["task"]) == ("Wav2VecCtc", "AudioFinetuningTask")
    assert actual["symbols"] == ["<s>", "<pad>", "</s>", "<unk>", *LETTERS]
    assert torch.equal(actual["output"], expected)


def test_our_own_models_tensors_are_fairseqs(loaded):
    with torch.no_grad():
        expected = tiny_ccc(seed=5).eval().extract_features(wave(), None)["x"]
    assert torch.equal(loaded["ours"]["output"], expected)


def test_finetuned_export_writes_the_checkpoint_and_its_dictionary(save, tmp_path):
    out = tmp_path / "new" / "plain.pt"
    assert export_plain(save(finetuned_state()), out) == [out, out.parent / "dict.ltr.txt"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["dict.ltr.txt", "plain.pt"]
    torch.load(out, weights_only=True)


def test_pretrained_export_keeps_the_tensors_and_nothing_of_the_machine():
    state = pretrained_state()
    plain = to_plain(state)
    assert plain["model"].keys() == state["model"].keys()
    assert all(torch.equal(plain["model"][name], state["model"][name]) for name in state["model"])
    assert plain["cfg"]["model"]["_name"] == "wav2vec2"
    assert plain["cfg"]["task"]["_name"] == "audio_pretraining"
    assert plain["cfg"]["criterion"]["_name"] == "wav2vec"
    assert plain["cfg"]["criterion"]["infonce"] is True
    assert plain["cfg"]["criterion"]["loss_weights"] == [0.2, 5.0]
    assert plain["cfg"]["optimization"]["max_update"] == 400_000
    assert GONE not in repr(plain["cfg"])
    assert plain["cfg"]["common"]["user_dir"] is None
    assert "last_optimizer_state" not in plain
    assert "task_state" not in plain
    assert "train_iterator" not in plain["extra_state"]
    assert plain["optimizer_history"][-1]["num_updates"] == 1000


def test_configuration_has_no_field_that_one_of_the_two_fairseqs_lacks():
    finetuned = to_plain(finetuned_state())["cfg"]
    one_alone = {"adp_num", "adp_act_fn", "multi_corpus_keys", "precompute_mask_config", "rebuild_batches", "subsample"}
    one_alone |= {
        "inferred_w2v_config",
        "precompute_mask_indices",
        "target_dictionary",
        "wer_sil_weight",
        "layer_decay",
    }
    for cfg in (finetuned, finetuned["model"]["w2v_args"], to_plain(pretrained_state())["cfg"]):
        for section in ("model", "task", "criterion"):
            assert not one_alone & set(cfg[section] or ())
    assert "layer_type" not in finetuned["model"]
    assert finetuned["model"]["w2v_args"]["model"]["layer_type"] == "transformer"


def test_finetuned_export_holds_its_base_and_dictionary_as_plain_data():
    state = finetuned_state()
    plain = to_plain(state)
    assert GONE not in repr(plain["cfg"])
    assert plain["cfg"]["model"]["w2v_args"]["model"]["_name"] == "wav2vec2"
    assert plain["cfg"]["model"]["w2v_args"]["task"]["_name"] == "audio_pretraining"
    assert plain["cfg"]["criterion"]["zero_infinity"] is True
    dictionary = state["task_state"]["target_dictionary"]
    assert plain["ccc_dictionary"] == {"symbols": dictionary.symbols, "count": dictionary.count}
    assert "task_state" not in plain


@pytest.mark.parametrize("make", [pretrained_state, finetuned_state])
def test_export_of_an_export_is_the_same(make, save, tmp_path):
    once, twice = tmp_path / "a" / "plain.pt", tmp_path / "b" / "plain.pt"
    export_plain(save(make()), once)
    export_plain(once, twice)
    first, second = (torch.load(path, weights_only=True) for path in (once, twice))
    assert first.keys() == second.keys()
    assert {key: first[key] for key in first if key != "model"} == {key: second[key] for key in first if key != "model"}


def test_half_precision_takes_half_the_size_and_loads_into_a_single_precision_model(tmp_path):
    state = pretrained_state()
    state["model"] = tiny_ccc(seed=5).state_dict()
    torch.save(state, tmp_path / "checkpoint.pt")
    sizes = []
    for half in (False, True):
        (path,) = export_plain(tmp_path / "checkpoint.pt", tmp_path / f"{half}.pt", half=half)
        sizes.append(path.stat().st_size)
    # The rest of the file is names and settings.
    weights = sum(tensor.numel() for tensor in state["model"].values())
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, rel=0.02)
    model = tiny_ccc(seed=6)
    model.load_state_dict(torch.load(tmp_path / "True.pt", weights_only=True)["model"], strict=True)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, state["model"][name], rtol=1e-3, atol=1e-7)


def test_existing_target_is_refused_unless_overwritten(save, tmp_path):
    out = tmp_path / "plain.pt"
    out.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        export_plain(save(pretrained_state()), out)
    assert out.read_text() == "precious"
    export_plain(save(pretrained_state()), out, overwrite=True)
    assert torch.load(out, weights_only=True)["cfg"]["model"]["_name"] == "wav2vec2"


def test_another_models_dictionary_beside_the_target_is_refused(save, tmp_path):
    (tmp_path / "dict.ltr.txt").write_text("| 1\nZ 1\n")
    with pytest.raises(InputError, match="dict.ltr.txt: exists already"):
        export_plain(save(finetuned_state()), tmp_path / "plain.pt")
    assert not (tmp_path / "plain.pt").exists()
    assert (tmp_path / "dict.ltr.txt").read_text() == "| 1\nZ 1\n"


def test_missing_tensor_is_named_and_nothing_is_written(save, tmp_path):
    state = pretrained_state()
    del state["model"]["encoder.layers.1.fc2.bias"]
    out = tmp_path / "new" / "plain.pt"
    with pytest.raises(InputError, match=r"encoder\.layers\.1\.fc2\.bias"):
        export_plain(save(state), out)
    assert not out.parent.exists()


def test_interrupted_write_leaves_nothing(save, tmp_path, monkeypatch):
    source, out = save(pretrained_state()), tmp_path / "new" / "plain.pt"

    def half_written(_, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module.torch, "save", half_written)
    with pytest.raises(KeyboardInterrupt):
        export_plain(source, out)
    assert list(out.parent.iterdir()) == []


def test_truncated_checkpoint_ends_the_tool_with_one_line_and_code_2(save, tmp_path, monkeypatch, capsys):
    path, out = save(pretrained_state()), tmp_path / "plain.pt"
    path.write_bytes(path.read_bytes()[:-2000])
    monkeypatch.setattr(sys, "argv", ["export.py", "--to", "fairseq", "--checkpoint", str(path), "--out", str(out)])
    assert runpy.run_path(str(TOOL))["main"]() == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {path}")
    assert printed.count("\n") == 1
    assert not out.exists()


def test_help_of_the_tool_imports_neither_torch_nor_fairseq():
    code = "import runpy, sys\nsys.argv = ['export.py', '--help']\n"
    code += f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
    code += "except SystemExit as stop: print(stop.code, 'torch' in sys.modules, 'fairseq' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False False"


def test_other_models_are_refused_by_name():
    state = pretrained_state()
    state["cfg"]["model"]["_name"] = "hubert"
    with pytest.raises(InputError, match="'hubert'"):
        to_plain(state)
    state = finetuned_state()
    state["cfg"]["model"]["w2v_args"]["model"]["_name"] = "data2vec_audio"
    with pytest.raises(InputError, match="'data2vec_audio'"):
        to_plain(state)


def test_finetuned_checkpoint_without_its_base_or_dictionary_is_refused():
    state = finetuned_state()
    state["cfg"]["model"]["w2v_args"] = None
    with pytest.raises(InputError, match="w2v_args"):
        to_plain(state)
    state = finetuned_state()
    state["task_state"] = {}
    with pytest.raises(InputError, match="dictionary"):
        to_plain(state)


def test_vocabulary_that_does_not_fit_is_refused():
    state = finetuned_state()
    state["task_state"]["target_dictionary"].add_symbol("Z")
    with pytest.raises(InputError, match="vocabulary does not fit: the dictionary has 19 symbols, the output layer 18"):
        to_plain(state)


def test_layer_type_of_one_fairseq_is_refused():
    with pytest.raises(InputError, match="layer_type.*trf_adp"):
        to_plain({**(state := pretrained_state()), "cfg": _with_layer_type(state["cfg"], "trf_adp")})


def _with_layer_type(cfg, layer_type):
    return {**cfg, "model": {**cfg["model"], "layer_type": layer_type}}


def test_dictionary_that_fairseqs_text_form_would_change_is_refused(save, tmp_path):
    state = finetuned_state()
    odd = Dictionary(extra_special_symbols=["<ctc>"])
    for letter in LETTERS[:-1]:
        odd.add_symbol(letter)
    odd.symbols[0], odd.symbols[4] = odd.symbols[4], odd.symbols[0]
    state["task_state"]["target_dictionary"] = odd
    with pytest.raises(InputError, match="do not survive"):
        export_plain(save(state), tmp_path / "plain.pt")


layer = st.tuples(st.integers(1, 999), st.integers(1, 20), st.integers(1, 9))


@given(st.lists(st.tuples(st.lists(layer, min_size=1, max_size=3), st.integers(1, 4)), min_size=1, max_size=4))
def test_convolutions_read_as_python_would(parts):
    spec = " + ".join(f"{layers} * {times}" for layers, times in parts)
    assert parse_conv_layers(spec) == eval(spec)


@pytest.mark.parametrize("spec", ["__import__('os').system('x')", "[(1, 2)]", "[(1, 2, 3)", "5", "[(1, 2, 3)] * 'a'"])
def test_anything_but_convolutions_is_refused(spec):
    with pytest.raises(InputError, match="conv_feature_layers"):
        parse_conv_layers(spec)


def test_code_in_the_configuration_is_never_run(save, tmp_path):
    state = pretrained_state()
    state["cfg"]["model"]["conv_feature_layers"] = f"open({str(tmp_path / 'ran')!r}, 'w') or [(32, 10, 5)]"
    with pytest.raises(InputError, match="conv_feature_layers"):
        export_plain(save(state), tmp_path / "plain.pt")
    assert not (tmp_path / "ran").exists()
