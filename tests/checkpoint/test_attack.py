"""Hostile checkpoints through everything that reads one: no file appears, no secret gets out, a user's error at most.

In-process, so that many payloads are tried in one; test_untrusted tries every field of every configuration.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import os
import pathlib
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.models.wav2vec.wav2vec2_asr import Wav2VecCtc
from omegaconf import OmegaConf

import ccc_w2v
from ccc_w2v.checkpoint.evaluated import EVALUATED
from ccc_w2v.checkpoint.import_any import import_any
from ccc_w2v.checkpoint.plain import export_plain
from ccc_w2v.decode.ctc_model import average_tensors, load_ctc
from ccc_w2v.errors import InputError
from ccc_w2v.export.huggingface import export_huggingface
from ccc_w2v.lm.fairseq import load_fairseq_lm
from ccc_w2v.probe.features import load_encoder
from tests.export.conftest import finetuned_state, pretrained_state
from tests.lm.test_fairseq import write_lm

SECRET = "hunter2-in-the-environment"
Reader = Callable[[pathlib.Path, pathlib.Path, list[pathlib.Path]], Any]


_tuned = functools.cache(finetuned_state)


def _finetune(path: pathlib.Path) -> Any:
    """Build what fairseq's fine-tuning builds from model.w2v_path."""
    tuned = _tuned()
    model = {**tuned["cfg"]["model"], "w2v_path": str(path), "w2v_args": None, "normalize": False}
    task = Namespace(target_dictionary=tuned["task_state"]["target_dictionary"])
    return Wav2VecCtc.build_model(OmegaConf.create(model), task)


def _onnx(path: pathlib.Path, out: pathlib.Path, audio: list[pathlib.Path]) -> Any:
    pytest.importorskip("onnx")
    from ccc_w2v.export.onnx_wer import export_measured

    return export_measured(path, out, audio, None)


FINETUNED: dict[str, Reader] = {
    "decode": lambda path, out, audio: load_ctc(path),
    "average": lambda path, out, audio: average_tensors([path]),
    "export fairseq": lambda path, out, audio: export_plain(path, out),
    "export transformers": export_huggingface,
    "export onnx": _onnx,
    "import": lambda path, out, audio: import_any(path, out),
    "features": lambda path, out, audio: load_encoder(path),
    "fairseq": lambda path, out, audio: checkpoint_utils.load_model_ensemble_and_task([str(path)]),
}
PRETRAINED: dict[str, Reader] = {
    name: FINETUNED[name] for name in ("export fairseq", "export transformers", "import", "features", "fairseq")
} | {
    "fine-tuning": lambda path, out, audio: _finetune(path),
    "finetune_from_model": lambda path, out, audio: checkpoint_utils.load_checkpoint_to_cpu(str(path)),
}
READERS = [(kind, name) for kind, readers in (("finetuned", FINETUNED), ("pretrained", PRETRAINED)) for name in readers]


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Any]]:
    return {"finetuned": finetuned_state(), "pretrained": pretrained_state()}


@pytest.fixture
def attack(save, tmp_path, recordings, monkeypatch) -> Callable[[str, str, dict[str, Any]], str]:
    """Return a function that lets a reader read a state, and says how that ended: "" or the user's error."""
    ccc_w2v.register()
    monkeypatch.setitem(os.environ, "CCC_SECRET", SECRET)
    numbers = itertools.count()
    path = save({})

    def run(kind: str, name: str, state: dict[str, Any], *, any_error: bool = False) -> str:
        out = tmp_path / f"out{next(numbers)}"
        # As if from the file: writing and reading thousands would take most of the time.
        monkeypatch.setattr(torch, "load", lambda *_, **__: dict(state))
        try:
            result = {"finetuned": FINETUNED, "pretrained": PRETRAINED}[kind][name](path, out, recordings)
            said = ""
        except InputError as error:
            said, result = str(error), None
        except Exception as error:
            if not any_error:
                raise
            said, result = str(error), None
        assert not list(tmp_path.rglob("ran*")), "a payload was run"
        files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
        assert SECRET not in said + repr(result)
        assert not [path for path in files if SECRET.encode() in path.read_bytes()]
        return said

    return run


def touch(folder: pathlib.Path) -> str:
    return f"__import__('pathlib').Path({str(folder / 'ran')!r}).touch()"


def places(value: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Every place of a configuration that holds a text or may hold one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, *path, name)
    elif value is None or isinstance(value, (str, list)):
        yield path


def put(state: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    state = {**state, "cfg": copy.deepcopy(state["cfg"])}
    section = state["cfg"]
    for name in place[:-1]:
        section = section[name]
    section[place[-1]] = value
    return state


def light(state: dict[str, Any]) -> dict[str, Any]:
    """The same settings over one tensor: what is refused as it is read needs no more."""
    return {**state, "model": {"w": torch.zeros(1)}}


def bases(state: dict[str, Any]) -> tuple[str, ...]:
    return ("model", "w2v_args", "model") if state["cfg"]["model"]["_name"] == "wav2vec_ctc" else ("model",)


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_readers_take_harmless_checkpoints(kind, name, states, attack):
    assert attack(kind, name, states[kind]) == ""


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_a_comment_that_pulls_a_second_line_in_is_not_run(kind, name, states, attack, tmp_path):
    base = bases(states[kind])
    layers = states["pretrained"]["cfg"]["model"]["conv_feature_layers"]
    for section in {base[:-1], ()}:
        for reference in ("${task.labels}", "${task.data}", "${..task.data}", "\\${task.labels}", "\\\\${task.labels}"):
            state = put(states[kind], (*base, "conv_feature_layers"), f"({layers} # {reference}\n)")
            second = f"\n+ [] * bool({touch(tmp_path)})"
            for key in ("labels", "data"):
                state = put(state, (*section, "task", key), second)
            assert attack(kind, name, state)


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_texts_that_fairseq_evaluates_are_not_run(kind, name, states, attack, tmp_path):
    texts = [(*bases(states[kind]), key) for key in EVALUATED]
    texts += [("optimizer", "adam_betas"), ("criterion", "wer_args"), ("checkpoint", "optimizer_overrides")]
    texts += [("model", "conv_feature_layers"), ("common_eval", "model_overrides"), ("lr_scheduler", "update2lr")]
    for place in texts:
        payload = f"[(32, 10, 5)] * (1 + bool({touch(tmp_path)}))"
        assert attack(kind, name, put(light(states[kind]), place, payload)), place


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_no_field_of_a_checkpoint_is_resolved_or_run(kind, name, states, attack, tmp_path):
    state = states[kind]
    everywhere = list(places(state["cfg"]))
    assert len(everywhere) > 90
    for place in everywhere:
        assert attack(kind, name, put(light(state), place, "x ${oc.env:CCC_SECRET}")), place
    # Code in what nothing evaluates is a text as any other: the fields of a section together leave no trace either.
    texts = [place for place in everywhere if place[-1] not in (*EVALUATED, "labels", "_name", "w2v_args")]
    building = {place[:-1] for place in texts if place[-2:-1] in (("model",), ("task",), ("criterion",))}
    for section in [*building, ()]:
        hostile = state
        for place in texts:
            if place[:-1] == section or (not section and place[:-1] not in building):
                hostile = put(hostile, place, touch(tmp_path))
        # A text in place of a number is fairseq's own error where fairseq reads.
        attack(kind, name, hostile, any_error=name in ("fairseq", "fine-tuning", "finetune_from_model"))


@pytest.mark.parametrize(("kind", "name"), READERS)
def test_labels_write_nothing_beside_the_target(kind, name, states, attack, tmp_path):
    before = set(tmp_path.parent.rglob("*.txt"))
    for labels in ("/../../../ran", "/../ran", "../ran"):
        state = put(states[kind], ("task", "labels"), labels)
        assert attack(kind, name, state)
    assert set(tmp_path.parent.rglob("*.txt")) == before


@pytest.mark.parametrize(("kind", "name"), READERS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder_layers", 10**9),
        ("encoder_embed_dim", 10**9),
        ("latent_vars", 10**10),
        ("conv_feature_layers", "[(10000000, 1000, 5)] * 7"),
        ("conv_pos", 10**12),
    ],
)
def test_sizes_that_no_tensor_backs_allocate_nothing(kind, name, key, value, states, attack):
    said = attack(kind, name, put(states[kind], (*bases(states[kind]), key), value))
    assert "parameters" in said or name == "average"


@pytest.mark.parametrize("value", ["x", None, [], {}, -1, 1e300, True, [[]]], ids=repr)
@pytest.mark.parametrize("kind", ["finetuned", "pretrained"])
def test_settings_of_another_kind_end_in_one_sentence(kind, value, states, attack):
    """A seeded choice of places: each reader gets a section, name or size that is not one."""
    state, generator = states[kind], torch.Generator().manual_seed(5)
    readers = ["import", "features", "decode"] if kind == "finetuned" else ["import", "features"]
    spots = [*places(state["cfg"]), *((*bases(state), key) for key in ("encoder_layers", "conv_pos", "final_dim"))]
    spots += [("model",), ("task",), ("criterion",), ("optimizer",), bases(state), (*bases(state)[:-1], "task")]
    for index in torch.randperm(len(spots), generator=generator)[:6].tolist() + [-1, -2, -3, -4, -5, -6, -7]:
        attack(kind, readers[index % len(readers)], put(state, spots[index], value))


def test_language_models_are_read_as_plain_data(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "CCC_SECRET", SECRET)
    for old in (False, True):
        path, _, _ = write_lm(tmp_path / f"old{old}", {}, old=old)
        state = torch.load(path, weights_only=True) if not old else None
        if old:
            with torch.serialization.safe_globals([Namespace]):
                state = torch.load(path, weights_only=True)
        fields = dict(vars(state["args"]) if old else state["cfg"]["model"])
        refused = 0
        for key in {*fields, *EVALUATED}:
            for payload in (touch(tmp_path), "${oc.env:CCC_SECRET}"):
                if old:
                    state["args"] = Namespace(**{**fields, key: payload})
                else:
                    state["cfg"]["model"] = {**fields, key: payload}
                torch.save(state, path)
                try:
                    said = repr(load_fairseq_lm(path))
                except InputError as error:
                    refused, said = refused + 1, str(error)
                assert SECRET not in said
                assert not (tmp_path / "ran").exists(), key
        assert refused > len(EVALUATED)


def test_a_base_configuration_inside_a_recipe_is_inert_too(states, tmp_path):
    """model.w2v_args of a configuration may be a checkpoint's own."""
    ccc_w2v.register()
    model = copy.deepcopy(states["finetuned"]["cfg"]["model"])
    model["w2v_args"]["model"]["conv_feature_layers"] = f"[(32, 10, 5)] * (1 + bool({touch(tmp_path)}))"
    task = Namespace(target_dictionary=states["finetuned"]["task_state"]["target_dictionary"])
    with pytest.raises(InputError, match=r"w2v_args.*conv_feature_layers"):
        Wav2VecCtc.build_model(OmegaConf.create(model), task)
    assert not (tmp_path / "ran").exists()


def test_a_transformers_folder_brings_no_code(tmp_path, save, recordings):
    """Neither a tokenizer nor a model of the folder's own is imported, and nobody is asked whether it may be."""
    from ccc_w2v.lm.causal import load_transformers_lm

    export_huggingface(save(finetuned_state()), folder := tmp_path / "folder", recordings)
    (folder / "evil.py").write_text(f"{touch(tmp_path)}\n")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        classes = ", ".join(
            f'"{auto}": {value}'
            for auto, value in {
                "AutoConfig": '"evil.E"',
                "AutoModel": '"evil.E"',
                "AutoModelForCTC": '"evil.E"',
                "AutoModelForCausalLM": '"evil.E"',
                "AutoTokenizer": '["evil.E", "evil.E"]',
                "AutoFeatureExtractor": '"evil.E"',
            }.items()
        )
        (folder / name).write_text(text.replace("{", f'{{"auto_map": {{{classes}}},', 1), encoding="utf-8")
    for read in (lambda: load_ctc(folder, sample_audio=recordings), lambda: load_transformers_lm(folder)):
        with contextlib.suppress(InputError):
            read()
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", [["decode.py"], ["export.py", "--to", "fairseq", "--checkpoint"], ["import.py"]])
def test_real_commands_end_with_one_line(command, states, save, tmp_path):
    state = put(states["finetuned"], (*bases(states["finetuned"]), "conv_feature_layers"), touch(tmp_path))
    path = save(state)
    tool = pathlib.Path(__file__).parents[2] / "tools" / command[0]
    arguments = [*command[1:], str(path), "--out", str(tmp_path / "out.pt")]
    if command == ["decode.py"]:
        arguments = ["--checkpoint", str(path), "--manifest", str(tmp_path / "x.tsv"), "--out", str(tmp_path / "out")]
        (tmp_path / "x.tsv").write_text("/\nx.wav\t16000\n")
    done = subprocess.run([sys.executable, tool, *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "conv_feature_layers" in done.stderr
    assert not (tmp_path / "ran").exists()
