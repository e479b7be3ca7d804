from __future__ import annotations

import hashlib

import pytest

import ccc_w2v
from ccc_w2v.checkpoint.plain import to_plain
from tests.export.conftest import OBJECTIVE, pretrained_state
from tests.fake_corpora import write_corpus


def test_note_tells_what_the_checkpoint_knows(tmp_path):
    state = pretrained_state()
    manifest = write_corpus(tmp_path / "corpus", [16000, 32000])
    state["cfg"]["task"]["data"] = str(manifest.parent)
    note = to_plain(state)["ccc_export"]
    assert note["version"] == ccc_w2v.__version__
    assert note["updates"] == 1000
    assert note["hours_heard"] == 2.0
    assert note["manifest"]["name"] == "corpus/train.tsv"
    assert note["manifest"]["utterances"] == 2
    assert note["manifest"]["hours"] == pytest.approx(3 / 3600)
    assert note["manifest"]["sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert note["objective"].items() >= {**OBJECTIVE, "augment": "augment.yaml"}.items()


def test_note_leaves_out_what_is_not_known():
    state = pretrained_state()
    state["task_state"] = {}
    assert not {"hours_heard", "manifest"} & to_plain(state)["ccc_export"].keys()
