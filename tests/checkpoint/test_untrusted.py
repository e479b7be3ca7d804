"""Settings of a hostile checkpoint come out inert: nothing in them is resolved, evaluated, imported or run."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import fairseq
import fairseq.models
import fairseq.registry
import fairseq.tasks
import numpy as np
import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from omegaconf import OmegaConf

from ccc_w2v.checkpoint.evaluated import EVALUATED, canonical
from ccc_w2v.checkpoint.sizes import check_sizes
from ccc_w2v.checkpoint.untrusted import KNOWN_INTERPOLATIONS, plain_settings
from ccc_w2v.checkpoint.untrusted_state import plain_state
from ccc_w2v.errors import InputError

FAIRSEQ = pathlib.Path(inspect.getfile(fairseq)).parent
SOURCES = [path for path in FAIRSEQ.rglob("*.py") if "examples" not in path.parts]
SECRET = "hunter2-in-the-environment"


def configurations() -> dict[str, type]:
    """Every configuration class that fairseq registers, by section and name."""
    classes = {}
    for field in dataclasses.fields(FairseqConfig):
        section = field.default if isinstance(field.default, type) else type(field.default)
        if dataclasses.is_dataclass(section):
            classes[field.name] = section
    registries = {name: registry["dataclass_registry"] for name, registry in fairseq.registry.REGISTRIES.items()}
    registries |= {"task": fairseq.tasks.TASK_DATACLASS_REGISTRY, "model": fairseq.models.MODEL_DATACLASS_REGISTRY}
    for section, registry in registries.items():
        classes |= {f"{section}.{name}": config for name, config in registry.items() if config is not None}
    return classes


CONFIGURATIONS = configurations()


def leaves(config: type) -> Iterator[str]:
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(field.type):
            yield from (f"{field.name}.{name}" for name in leaves(field.type))
        else:
            yield field.name


def nested(section: str, path: str, value: Any) -> dict[str, Any]:
    for name in reversed([section, *path.split(".")]):
        value = {name: value}
    return {"task": {"labels": "ltr", "data": "x"}, "model": {"data": "y"}, **value}


def as_fairseq_would(settings: dict[str, Any]) -> str:
    """Resolve all and evaluate whatever fairseq evaluates; returns all that came out."""

    def walk(value: Any, name: str = "") -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, key)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, name)
        elif isinstance(value, str) and name in EVALUATED:
            eval(value.replace("null", "None"))

    resolved = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)
    walk(resolved)
    return repr(resolved)


def payloads(marker: pathlib.Path) -> list[str]:
    touch = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    return [
        touch,
        f"[(8, 2, 2)] * bool({touch})",
        f"(0.9, {touch})",
        f"{{'a': {touch}}}",
        "${oc.env:CCC_SECRET}",
        "${env:CCC_SECRET}",
        "\\${oc.env:CCC_SECRET}",
        "\\\\${oc.env:CCC_SECRET}",
        "[(8, 2, 2)] # ${oc.env:CCC_SECRET}",
        "${task.labels}",
        "${..task.data}",
        "${oc.create:{a:1}}",
        "${${task.labels}}",
    ]


@pytest.mark.parametrize("section", sorted(CONFIGURATIONS))
def test_no_field_of_any_configuration_runs_or_resolves_what_stands_in_it(section, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    monkeypatch.setitem(os.environ, "CCC_SECRET", SECRET)
    refused = 0
    for path in leaves(CONFIGURATIONS[section]):
        for payload in payloads(marker):
            for value in (payload, [payload], {"deep": payload}):
                try:
                    inert = plain_settings(nested(section.partition(".")[0], path, value))
                except InputError:
                    refused += 1
                    continue
                assert SECRET not in as_fairseq_would(inert), path
                assert not marker.exists(), path
    assert refused, "no interpolation was refused"


def test_every_text_that_fairseq_evaluates_is_known():
    called = re.compile(
        r"(?<![.\w])(?:eval|(?:ast\.)?literal_eval|(?:\w+\.)?eval_(?:str_list|str_dict|bool))\(\s*"
        r"(?:getattr\()?(?:self\.)?(?:cfg|args|config|mask_compute_kwargs)(?:\.|\[\"|, \")(\w+)"
    )
    parsed = re.compile(r'"--([\w-]+)",(?:(?!add_argument)[^#])*?type=(?:lambda \w+: )?(?:\w+\.)?eval_\w+')
    names = {"feature_encoder_spec", "latent_temp"}  # passed on under other names before they are evaluated
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        names |= set(called.findall(text)) | {name.replace("-", "_") for name in parsed.findall(text)}
    assert {"conv_feature_layers", "adam_betas", "wer_args", "left_pad_source"} < names
    assert names - EVALUATED.keys() == set()


def test_every_interpolation_of_fairseqs_own_configurations_is_known():
    declared = {
        (field.name, field.default)
        for config in CONFIGURATIONS.values()
        for field in dataclasses.fields(config)
        if isinstance(field.default, str) and "${" in field.default and not config.__module__.startswith("ccc_w2v")
    }
    assert len(declared) > 20
    assert declared - KNOWN_INTERPOLATIONS == set()


def test_fairseqs_own_interpolations_become_their_values():
    settings = {
        "task": {"data": "/corpus", "normalize": True},
        "model": {
            "data": "${task.data}",
            "normalize": "${task.normalize}",
            "ddp_backend": "${distributed_training.ddp_backend}",
        },
        "dataset": {"batch_size": 4, "batch_size_valid": "${dataset.batch_size}"},
    }
    settings["model"]["w2v_args"] = {"task": {"data": "/base"}, "model": {"data": "${task.data}"}}
    plain = plain_settings(settings)
    assert plain["model"] == {
        "data": "/corpus",
        "normalize": True,
        "w2v_args": {"task": {"data": "/base"}, "model": {"data": "/base"}},
    }
    assert plain["dataset"]["batch_size_valid"] == 4


@pytest.mark.parametrize("hidden", ["${oc.env:HOME}", ["${oc.env:HOME}"], {"x": "${oc.env:HOME}"}])
def test_an_interpolation_behind_one_of_fairseqs_own_is_refused(hidden):
    with pytest.raises(InputError, match="interpolation"):
        plain_settings({"task": {"data": hidden}, "model": {"data": "${task.data}"}})


def test_interpolations_that_point_at_each_other_end():
    dataset = {"batch_size_valid": "${dataset.batch_size_valid}"}
    assert plain_settings({"dataset": dataset, "task": {}, "model": {}})["dataset"] == {}


@pytest.mark.parametrize(
    ("name", "text", "literal"),
    [
        ("conv_feature_layers", "[(512, 10, 5)] + [(512,3,2)] * 4", [(512, 10, 5)] + [(512, 3, 2)] * 4),
        ("conv_feature_layers", "([(8, 2, 1), (8, 2, 2)] * 2 # seven\n)", [(8, 2, 1), (8, 2, 2)] * 2),
        ("adam_betas", "(0.9, 0.98)", (0.9, 0.98)),
        ("latent_temp", " (2,0.5,0.999995)", (2, 0.5, 0.999995)),
        ("adaptive_softmax_cutoff", "5,8", (5, 8)),
        ("optimizer_overrides", "{}", {}),
        ("update2lr", '{"1-10": 0.1}', {"1-10": 0.1}),
        ("left_pad_source", "False", False),
        ("wer_args", "('a.bin', 'b.txt', 2, -1)", ("a.bin", "b.txt", 2, -1)),
    ],
)
def test_evaluated_texts_become_literals_of_the_same_value(name, text, literal):
    assert canonical(name, text) == repr(literal)
    assert ast.literal_eval(canonical(name, text)) == literal


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conv_feature_layers", "[(8, 2, 2)] * 10**9"),
        ("conv_feature_layers", "[(8, 2, 2)] * 65"),
        ("conv_feature_layers", "[(8, 2, 2)] * 60 * 60 * 60 * 60"),
        ("conv_feature_layers", "[(8, 2, 2) for _ in range(3)]"),
        ("conv_feature_layers", "[(8, 2, -2)]"),
        ("conv_feature_layers", "[(True, 2, 2)]"),
        ("conv_feature_layers", "(" * 4000 + ")" * 4000),
        ("conv_feature_layers", "[(8, 2, 2)]" + " " * 5000),
        ("adam_betas", "('a', 1)"),
        ("adam_betas", "(1e999, 1)"),
        ("adam_betas", "abs(1)"),
        ("xformers_att_config", "{'a': 1e999}"),
        ("epoch2lr", "dict(a=1)"),
        ("decoder_xformers_att_config", "dict(a=1)"),
        ("eval_bleu_args", "[1]"),
    ],
)
def test_anything_but_the_literal_is_refused(name, text):
    with pytest.raises(InputError, match=name):
        canonical(name, text)


def test_what_acts_is_put_to_rest():
    common = {"user_dir": "/evil", "quantization_config_path": "/x", "log_file": None}
    task = {"post_save_script": "rm", "eval_wer": True, "labels": "ltr", "data": "???"}
    plain = plain_settings({"common": common, "task": task, "model": {"freeze_regex": "(a+)+b"}})
    assert plain["common"] == {"user_dir": None, "quantization_config_path": None, "log_file": None}
    assert plain["task"] == {"post_save_script": None, "eval_wer": False, "labels": "ltr"}
    assert plain["model"] == {"freeze_regex": None}


@pytest.mark.parametrize("labels", ["../../x", "/x", "a/b", "", ".", "a\0b"])
def test_labels_that_would_name_a_file_elsewhere_are_refused(labels):
    with pytest.raises(InputError, match="labels"):
        plain_settings({"task": {"labels": labels}})


def _deep(levels: int) -> Any:
    return {"a": _deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    "settings",
    [
        _deep(200),
        {"a": list(range(30_000))},
        {"a": torch.zeros(1)},
        {"a": {1, 2}},
        {"a": 2**70},
        {("a",): 1},
        {"${a}": 1},
    ],
    ids=["deep", "long", "tensor", "set", "huge", "key", "interpolated key"],
)
def test_what_is_no_plain_data_is_refused(settings):
    with pytest.raises(InputError):
        plain_settings(settings)


def test_an_old_flat_namespace_stays_one():
    args = argparse.Namespace(arch="wav2vec2", latent_temp="(2, 0.5, 0.9)", lr=(np.float64(0.5),), user_dir="/evil")
    plain = plain_settings(args)
    assert vars(plain) == {"arch": "wav2vec2", "latent_temp": "(2, 0.5, 0.9)", "lr": [0.5], "user_dir": None}


def _state(**parts: Any) -> dict[str, Any]:
    return {"model": {"w": torch.zeros(2)}, "cfg": {"model": {}, "task": {}}, "args": None, **parts}


@pytest.mark.parametrize(
    "parts",
    [
        {"model": {"w": torch.zeros(1).expand(10**6, 10**6)}},
        {"model": {"w": torch.sparse_coo_tensor(torch.zeros(1, 0), torch.zeros(0), (10**12,))}},
        {"model": {"w": torch.zeros(10**6, device="meta")}},
        {"model": {"w": "x"}},
        {"model": {1: torch.zeros(1)}},
        {"model": [torch.zeros(1)]},
        {"optimizer_history": {"num_updates": 1}},
        {"optimizer_history": [{"num_updates": "__import__('os')"}]},
        {"optimizer_history": [{"num_updates": -1}]},
        {"ccc_dictionary": {"symbols": ["a"], "count": [1, 2]}},
        {"ccc_dictionary": {"symbols": [["a"]], "count": [1]}},
        {"ccc_export": {"name": "${oc.env:HOME}"}},
        {"ccc_export": [1]},
        {"ccc_export": {"recipe": "x"}},
        {"task_state": [1]},
        {"cfg": [1]},
        {"cfg": {"model": "x", "task": {}}},
        {"cfg": {"model": {"w2v_args": "x"}, "task": {}}},
        {"cfg": {"model": {"w2v_args": {"task": [1]}}, "task": {}}},
    ],
    ids=repr,
)
def test_a_state_that_is_not_what_it_is_taken_for_is_refused(parts):
    assert plain_state(_state())["cfg"] == {"model": {}, "task": {}}
    with pytest.raises(InputError):
        plain_state(_state(**parts))


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder_layers": 10**9},
        {"encoder_embed_dim": 10**7, "encoder_layers": 1},
        {"latent_vars": 10**8, "latent_groups": 2, "final_dim": 256, "conv_feature_layers": "[(8, 2, 2)]"},
        {"conv_feature_layers": "[(1000000, 1000, 2)]"},
        {"conv_feature_layers": "[(8, 2, 2)]", "encoder_embed_dim": 100_000, "conv_pos": 128, "conv_pos_groups": 1},
        {"decoder_layers": 3, "decoder_embed_dim": 10**6, "decoder_ffn_embed_dim": 10**6},
        {"max_target_positions": 10**9, "decoder_learned_pos": True, "decoder_embed_dim": 512},
        {"character_filters": "[(100000, 1000)]", "character_embedding_dim": 4},
        {"required_seq_len_multiple": 10**12},
        {"encoder_layers": -1},
        {"encoder_layers": "12"},
        {"encoder_layers": float("inf")},
    ],
    ids=str,
)
def test_sizes_that_the_file_does_not_back_are_refused(settings):
    check_sizes({"encoder_layers": 2, "encoder_embed_dim": 32}, {"w": torch.zeros(100)})
    with pytest.raises(InputError):
        check_sizes(settings, {"w": torch.zeros(100)})
