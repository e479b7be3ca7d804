"""Decodings, alignments and features in shards: merged, they are what one call writes."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ccc_w2v.cli.main import main
from tests.export.conftest import pretrained_state
from tests.fake_corpora import write_corpus
from tests.tiny_ctc import write_test_set


@pytest.fixture
def listed(tmp_path):
    """A copy of its own, to change."""
    return write_test_set(tmp_path / "set")


def sharded(words, out, count=3):
    for number in range(count, 0, -1):
        assert main([*words, "--out", str(out), "--shard", f"{number}/{count}"]) == 0


def content(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_decoding_in_shards_is_the_decoding(checkpoint, listed, tmp_path, capsys):
    words = ["decode", "--checkpoint", str(checkpoint), "--manifest", str(listed), "--logits"]
    assert main([*words, "--out", str(tmp_path / "straight")]) == 0
    out = tmp_path / "merged"
    sharded(words, out)
    assert not out.exists()
    assert main(["merge", str(out)]) == 0
    expected, merged = content(tmp_path / "straight"), content(out)
    assert expected.keys() == merged.keys()
    for name in ("hyp.trn", "hyp.ctm", "ref.trn"):
        assert expected[name] == merged[name], name
    for path in (out / "logits").glob("*.npy"):
        whole = np.load(tmp_path / "straight" / "logits" / path.name)
        np.testing.assert_allclose(np.load(path), whole, rtol=0, atol=1e-4)
    capsys.readouterr()
    assert main([*words, "--out", str(out)]) == 0
    assert "decoded before with the same settings" in capsys.readouterr().out


def test_shards_of_a_manifest_that_has_changed_are_refused(checkpoint, listed, tmp_path, capsys):
    words = ["decode", "--checkpoint", str(checkpoint), "--manifest", str(listed)]
    out = tmp_path / "out"
    sharded(words, out, 2)
    lines = listed.read_text().splitlines(keepends=True)
    listed.write_text("".join(lines[:-1]))
    listed.with_suffix(".wrd").write_text("".join(listed.with_suffix(".wrd").read_text().splitlines(True)[:-1]))
    listed.with_suffix(".ltr").write_text("".join(listed.with_suffix(".ltr").read_text().splitlines(True)[:-1]))
    assert main(["merge", str(out)]) == 2
    assert "is not the manifest that the shards were made of" in capsys.readouterr().err
    assert main([*words, "--out", str(out), "--shard", "1/2"]) == 2
    assert "holds a shard made with other settings (manifest" in capsys.readouterr().err
    assert not out.exists()


def test_an_alignment_in_shards_is_the_alignment(checkpoint, listed, tmp_path):
    words = ["align", "--checkpoint", str(checkpoint), "--manifest", str(listed)]
    assert main([*words, "--out", str(tmp_path / "straight.tsv")]) == 0
    sharded(words, tmp_path / "merged.tsv", 2)
    assert main(["merge", str(tmp_path / "merged.tsv")]) == 0
    expected, merged = (
        [line.split("\t") for line in (tmp_path / name).read_text().splitlines()]
        for name in ("straight.tsv", "merged.tsv")
    )
    assert [row[:6] for row in merged] == [row[:6] for row in expected]


def test_features_in_shards_are_found_by_the_merged_index(tmp_path, capsys):
    manifest = write_corpus(tmp_path / "corpus", [9600, 8000, 12345, 8000, 9600])
    torch.save(pretrained_state(), tmp_path / "pre.pt")
    words = ["features", "--checkpoint", str(tmp_path / "pre.pt"), "--manifest", str(manifest)]
    words += ["--layers", "1,2", "--shard-utterances", "2"]
    assert main([*words, "--out", str(tmp_path / "straight")]) == 0
    sharded(words, tmp_path / "merged", 2)
    assert main(["merge", str(tmp_path / "merged")]) == 0
    expected, merged = features_of(tmp_path / "straight"), features_of(tmp_path / "merged")
    assert list(expected) == list(merged)
    for utterance, features in expected.items():
        np.testing.assert_allclose(merged[utterance], features, rtol=0, atol=1e-4)
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "merged")]) == 2
    assert "made with other settings (shards)" in capsys.readouterr().err


def features_of(out):
    _, *rows = [line.split("\t") for line in (out / "index.tsv").read_text().splitlines()]
    return {
        utterance: load_file(out / f"{shard}.safetensors")["features"][int(first) : int(first) + int(count)]
        for utterance, shard, first, count, *_ in rows
    }
