"""Settings of a comparison as overrides of its recipe."""

from __future__ import annotations

from pathlib import Path

from ccc_w2v.comparison.settings import key_overrides

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
