"""Packing into tar shards: the same bytes and labels, resumable, readable by any tar program, nothing half-written."""

import tarfile

import pytest
import soundfile
import torch

from ccc_w2v.data import shard_packing
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.packing import pack
from ccc_w2v.data.shard_packing import index_of, pack_shards
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, speech_like, write_corpus, write_labels
from tests.run_tool import one_line_error, run_with


@pytest.fixture
def corpus(tmp_path):
    path = write_corpus(tmp_path / "raw", [4000, 5000, 6000, 7000])
    (tmp_path / "raw/audio/anna").mkdir()
    soundfile.write(tmp_path / "raw/audio/anna/take.4.flac", speech_like(8000, 9), RATE)
    entries = [(entry.path, entry.samples) for entry in read_manifest(path).entries]
    write_manifest(path, tmp_path / "raw/audio", [*entries, ("anna/take.4.flac", 8000)])
    write_labels(path, ["ONE", "TWO", "THREE", "FOUR", "FIVE"])
    return path


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_members_keep_their_bytes_and_order(corpus, tmp_path):
    raw = read_manifest(corpus)
    shards = pack_shards(raw, tmp_path / "out/train.tsv", RATE, 25_000)
    assert [shard.name for shard in shards] == [f"train-00000{number}.tar" for number in range(3)]
    packed = read_manifest(tmp_path / "out/train.tsv")
    assert read_labels(packed, ".ltr") == read_labels(raw, ".ltr")
    for own, entry in zip(raw.entries, packed.entries, strict=True):
        wave = read_audio(packed.audio_path(entry), RATE, declared_samples=entry.samples)
        assert torch.equal(wave, read_audio(raw.audio_path(own), RATE))
    members = []
    for shard in shards:
        with tarfile.open(shard) as archive:
            members += [(member.name, archive.extractfile(member).read()) for member in archive]
    assert [name for name, _ in members] == [*(f"train{number}.wav" for number in range(4)), "anna/take_4.flac"]
    for own, (_, content) in zip(raw.entries, members, strict=True):
        with open(raw.audio_path(own), "rb") as file:
            assert file.read() == content
    indexed = [entry.path for shard in shards for entry in read_manifest(index_of(shard)).entries]
    assert indexed == [entry.path for entry in packed.entries]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("at", range(5))
def test_an_interrupted_call_continues_after_the_last_whole_shard(corpus, tmp_path, monkeypatch, at):
    raw = read_manifest(corpus)
    pack_shards(raw, tmp_path / "straight/train.tsv", RATE, 25_000)
    check, packed = shard_packing._checked, []

    def interrupted(manifest, entry, rate):
        if entry.line - 2 == at:
            raise KeyboardInterrupt
        return check(manifest, entry, rate)

    out = tmp_path / "out/train.tsv"
    monkeypatch.setattr(shard_packing, "_checked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_shards(raw, out, RATE, 25_000)
    assert not out.exists()
    whole = sum(len(read_manifest(index).entries) for index in out.parent.glob("*.tar.tsv"))
    monkeypatch.setattr(shard_packing, "_checked", lambda *rest: packed.append(rest[1].line - 2) or check(*rest))
    pack_shards(raw, out, RATE, 25_000)
    assert min(packed) == whole
    straight = {name: content for name, content in files(tmp_path / "straight").items() if name.endswith(".tar")}
    assert straight == {name: content for name, content in files(out.parent).items() if name.endswith(".tar")}
    packed.clear()
    pack_shards(raw, out, RATE, 25_000)
    assert packed == []


def test_shards_can_be_packed_again_and_zips_too(corpus, tmp_path):
    raw = read_manifest(corpus)
    pack_shards(raw, tmp_path / "one/train.tsv", RATE, 25_000)
    pack(raw, tmp_path / "zip/train.tsv", RATE)
    for source in ("one", "zip"):
        again = read_manifest(tmp_path / source / "train.tsv")
        (shard,) = pack_shards(again, tmp_path / f"two_{source}/train.tsv", RATE)
        with tarfile.open(shard) as archive:
            assert archive.getnames() == [*(f"{number:09}.wav" for number in range(4)), "000000004.flac"]
        packed = read_manifest(tmp_path / f"two_{source}/train.tsv")
        for own, entry in zip(raw.entries, packed.entries, strict=True):
            assert torch.equal(read_audio(packed.audio_path(entry), RATE), read_audio(raw.audio_path(own), RATE))


def test_mistakes_are_one_line(corpus, tmp_path, capsys):
    out = tmp_path / "out/train.tsv"
    command = ["pack", corpus, "--out", out, "--format", "tar", "--max-gib", "0.000025"]
    assert run_with(*command) == 0
    assert "3 shards" in capsys.readouterr().out
    before = files(out.parent)
    assert run_with(*command, "--sample-rate", "8000") == 2
    assert "made with other settings (sample rate)" in one_line_error(capsys)
    assert run_with("pack", corpus, "--out", corpus, "--format", "tar") == 2
    assert "name another output" in one_line_error(capsys)
    assert files(out.parent) == before
    (corpus.parent / "audio/train1.wav").unlink()
    assert run_with(*command, "--overwrite") == 0  # the same corpus and settings: nothing is read
    assert files(out.parent) == before
    assert run_with("pack", corpus, "--out", tmp_path / "new.tsv", "--format", "tar") == 2
    assert "train.tsv:3: " in capsys.readouterr().err
    soundfile.write(corpus.parent / "audio/train1.wav", speech_like(4999, 1), RATE)
    with pytest.raises(InputError, match=r"train\.tsv:3: .*4999 samples, the manifest declares 5000"):
        pack_shards(read_manifest(corpus), tmp_path / "newer.tsv", RATE)
