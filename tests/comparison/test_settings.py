"""Settings of a comparison as overrides of its recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ccc_w2v.comparison.chain import pretraining_overrides
from ccc_w2v.comparison.settings import as_record, check_processes, choose_arms, key_overrides, load_scale
from ccc_w2v.errors import InputError
from tests.comparison.chains import settings

ROOT = Path(__file__).resolve().parents[2]


def test_overrides_take_a_plus_where_a_component_does_not_name_the_key():
    values = {
        "criterion._name": "wav2vec",
        "criterion.infonce": True,
        "criterion.loss_weights": [0.1, 10],
        "model.conv_feature_layers": "[(16,10,5)] + [(16,3,2)]*4",
        "common.fp16": True,
        "task.data": "/a b",
    }
    assert key_overrides(ROOT / "recipes/small/config/pretrain.yaml", values) == [
        "criterion._name=wav2vec",
        "+criterion.infonce=true",
        "+criterion.loss_weights=[0.1,10]",
        "model.conv_feature_layers='[(16,10,5)] + [(16,3,2)]*4'",
        "common.fp16=true",
        "task.data='/a b'",
    ]


@pytest.mark.parametrize(("scale", "samples"), [("small", 480000), ("medium", 1920000)])
def test_processes_share_the_speech_of_an_update(tmp_path, scale, samples):
    for processes in (1, 2, 4):
        comparison = settings(ROOT / "recipes/small", tmp_path, scale=load_scale(ROOT / "recipes/small", scale))
        comparison = dataclasses.replace(comparison, processes=processes)
        named = [x for x in pretraining_overrides(comparison, comparison.arms[0], 1) if "max_tokens" in x]
        # Of one process pretrain.yaml's own, where the scale has no other.
        assert named == ([f"dataset.max_tokens={samples // processes}"] if (processes, scale) != (1, "small") else [])


def test_on_gpus_each_process_has_one(tmp_path):
    comparison = settings(ROOT / "recipes/small", tmp_path, device="cuda", processes=2)
    check_processes(comparison, gpus=2)
    with pytest.raises(InputError, match="--processes 2: each needs a GPU, and torch finds 1"):
        check_processes(comparison, gpus=1)


def test_after_spectra_every_pretrained_arm_has_the_warm_start_and_a_frozen_feature_encoder(tmp_path):
    recipe = ROOT / "recipes/small"
    for name in ("short", "medium"):
        comparison = settings(recipe, tmp_path, arms=choose_arms(recipe, []), scale=load_scale(recipe, name))
        for arm in comparison.arms:
            overrides = pretraining_overrides(comparison, arm, 1)
            warm = [word for word in overrides if word.startswith("checkpoint.finetune_from_model")]
            pretrained = name == "short" and arm.passes > 0
            assert warm == (
                [f"checkpoint.finetune_from_model={comparison.warm_start(1)}"] if pretrained or arm.warm_start else []
            )
            assert ("+model.feature_grad_mult=0.0" in overrides) == (name == "short")
        assert ("after_spectra" in as_record(comparison)["scale"]) == (name == "short")
