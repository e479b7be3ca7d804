"""A Hugging Face data set on disk as a source: rows as utterances, without a network."""

import io
import logging
import shutil

import pytest
import soundfile
import torch

from ccc_w2v.cli.main import main
from ccc_w2v.data import hub
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.shard_packing import pack_shards
from ccc_w2v.data.streams import read_source, stream_place
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, speech_like

datasets = pytest.importorskip("datasets", reason="extra hub")
LENGTHS = [4000, 5000, 6000]


def flac(samples, seed, rate=RATE):
    content = io.BytesIO()
    soundfile.write(content, speech_like(samples, seed), rate, format="FLAC")
    return content.getvalue()


def write_set(folder, rows, **columns):
    """Write a data set as the Hub keeps it: a folder of parquet files, one for each split."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "audio": [
            {"bytes": content, "path": f"utt{number}.flac" if content else None} for number, content in enumerate(rows)
        ]
    }
    stored = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    kinds = datasets.Features({"audio": stored, **{name: datasets.Value("string") for name in columns}})
    made = datasets.Dataset.from_dict({**table, **columns}, features=kinds)
    made = made.cast_column("audio", datasets.Audio())  # encoding it as such would need torchcodec
    made.to_parquet(str(folder / "train-00000-of-00001.parquet"))


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    hub.open_hub.cache_clear()


@pytest.fixture
def source(tmp_path):
    write_set(tmp_path / "set", [flac(length, seed) for seed, length in enumerate(LENGTHS)], text=["a", "b", "c"])
    return f"hub:{tmp_path / 'set'}/default/train"


def test_rows_are_utterances(source):
    manifest = read_source(source)
    assert manifest.root == source
    assert [(entry.path, entry.samples) for entry in manifest.entries] == [
        (str(row), length) for row, length in enumerate(LENGTHS)
    ]
    for row, entry in enumerate(manifest.entries):
        wave = read_audio(manifest.audio_path(entry), RATE, declared_samples=entry.samples)
        assert torch.allclose(wave, torch.from_numpy(speech_like(LENGTHS[row], row)), atol=1e-4)


def test_lengths_are_read_once_and_again_when_the_set_changes(source, tmp_path, monkeypatch):
    read_source(source)
    written = stream_place(source).stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(hub.HubAudio, "stored", lambda self, row: pytest.fail("read again"))
        hub.open_hub.cache_clear()
        read_source(source)
    assert stream_place(source).stat().st_mtime_ns == written
    write_set(tmp_path / "set", [flac(7000, 1)], text=["x"])
    hub.open_hub.cache_clear()
    assert read_source(source).samples.tolist() == [7000]


def test_rows_in_parts(source, monkeypatch):
    from ccc_w2v.data import stream_parts

    monkeypatch.setattr(stream_parts, "ROWS", 2)
    assert read_source(source).samples.tolist() == LENGTHS


def test_bad_rows_are_named_and_counted(tmp_path, caplog):
    write_set(tmp_path / "set", [flac(4000, 0), b"no audio", None])
    source = f"hub:{tmp_path / 'set'}/default/train"
    with pytest.raises(InputError, match="row 1: not audio.*; 2 parts or members"):
        read_source(source)
    with caplog.at_level(logging.WARNING):
        assert read_source(source, "skip").samples.tolist() == [4000]
    assert "row 2: has no audio in column audio" in caplog.text
    assert "2 of 3 members cannot be used" in caplog.text


def test_a_data_set_becomes_shards(source, tmp_path):
    (shard,) = pack_shards(read_source(source), tmp_path / "out/train.tsv", RATE)
    assert shard.name == "train-000000.tar"
    packed = read_manifest(tmp_path / "out/train.tsv")
    assert packed.samples.tolist() == LENGTHS
    for row, entry in enumerate(packed.entries):
        assert torch.equal(read_audio(packed.audio_path(entry), RATE), read_audio(f"{source}/{row}", RATE))


def test_a_data_set_becomes_shards_in_shares(source, tmp_path):
    out = tmp_path / "out/train.tsv"
    for number in (1, 2):
        assert main(["pack", source, "--format", "tar", "--out", str(out), "--shard", f"{number}/2"]) == 0
    # Another machine has a cache of its own.
    shutil.rmtree(stream_place(source).parent)
    assert main(["merge", str(out)]) == 0
    packed = read_manifest(out)
    assert packed.samples.tolist() == LENGTHS
    for row, entry in enumerate(packed.entries):
        assert torch.equal(read_audio(packed.audio_path(entry), RATE), read_audio(f"{source}/{row}", RATE))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hub:only/two", "expected hub:name/config/split"),
        ("hub:{folder}/default/nosplit", "cannot be opened as a data set"),
        ("hub:{folder}/noconfig/train", "cannot be opened as a data set"),
        ("hub:{folder}/gone/default/train", "cannot be opened as a data set"),
    ],
)
def test_names_that_are_none(source, tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        read_source(name.format(folder=tmp_path / "set"))


def test_a_set_without_audio_and_a_row_that_is_not_there(source, tmp_path):
    (tmp_path / "text").mkdir()
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(str(tmp_path / "text/train.parquet"))
    with pytest.raises(InputError, match="has 0 columns of audio among text"):
        read_source(f"hub:{tmp_path / 'text'}/default/train")
    with pytest.raises(InputError, match="has 3 rows, no row 3"):
        read_audio(f"{source}/3", RATE)
