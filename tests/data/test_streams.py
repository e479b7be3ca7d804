"""Shards as a manifest: read once and kept, read again when one changes; what is damaged is named and counted."""

import io
import logging
import os
import tarfile

import pytest
import soundfile
import torch

from ccc_w2v.data import remote, streams
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.remote import Patience
from ccc_w2v.data.shard_packing import index_of, pack_shards
from ccc_w2v.data.sources import source_of
from ccc_w2v.data.streams import read_source, stream_place
from ccc_w2v.errors import InputError
from tests.data.shard_server import ShardServer
from tests.fake_corpora import RATE, speech_like, write_corpus

SHORT = Patience(60, 2)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(streams, "FRESH_SECONDS", 0)


def encoded(samples, seed, kind="flac"):
    content = io.BytesIO()
    soundfile.write(content, speech_like(samples, seed), RATE, format=kind.upper())
    return content.getvalue()


def write_tar(path, members, kind="w"):
    with tarfile.open(path, kind) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path):
    """Two shards as WebDataset writes them, transcripts beside the audio, a long name among them."""
    for shard in range(2):
        members = [("folder/__meta__.json", b"{}")]
        for index in range(3):
            key = f"{'long/' * 40 if index == 1 else ''}utt{shard}{index}"
            kind = "wav" if index == 2 else "flac"
            members += [
                (f"{key}.{kind}", encoded(2000 + 100 * index + shard, 3 * shard + index, kind)),
                (f"{key}.txt", b"WORD"),
            ]
        write_tar(tmp_path / f"train-{shard}.tar", members)
    return tmp_path


LENGTHS = [2000, 2100, 2200, 2001, 2101, 2201]


def lengths(manifest):
    return manifest.samples.tolist()


@pytest.mark.parametrize("pattern", ["train-{0..1}.tar", "train-*.tar", "train-[01].tar", "{train-0,train-1}.tar"])
def test_patterns_name_shards_on_this_machine(shards, pattern):
    manifest = read_source(shards / pattern)
    assert lengths(manifest) == LENGTHS
    for number, entry in enumerate(manifest.entries):
        wave = read_audio(manifest.audio_path(entry), RATE, declared_samples=entry.samples)
        assert torch.allclose(wave, torch.from_numpy(speech_like(LENGTHS[number], number)), atol=1e-4)


def test_shards_of_several_folders_keep_their_place(shards, tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "x.tar", [("u.wav", encoded(1000 + ord(folder), 1, "wav"))])
    manifest = read_source(tmp_path / "{a,b}/x.tar")
    assert manifest.root == str(tmp_path)
    assert [read_audio(manifest.audio_path(entry), RATE).numel() for entry in manifest.entries] == [1097, 1098]


def test_a_shard_is_read_once_and_again_when_it_changes(shards, monkeypatch):
    pattern = shards / "train-{0..1}.tar"
    assert lengths(read_source(pattern)) == LENGTHS
    index = stream_place(str(pattern))
    written = index.stat().st_mtime_ns
    scanned = []
    scan = streams.shard_part.__globals__["scan_shard"]
    monkeypatch.setitem(
        streams.shard_part.__globals__, "scan_shard", lambda shard, *rest: scanned.append(shard) or scan(shard, *rest)
    )
    assert lengths(read_source(pattern)) == LENGTHS
    assert (scanned, index.stat().st_mtime_ns) == ([], written)
    write_tar(shards / "train-1.tar", [("new.wav", encoded(1234, 1, "wav"))])
    assert lengths(read_source(pattern)) == [*LENGTHS[:3], 1234]
    assert scanned == [str(shards / "train-1.tar")]


def test_a_scan_that_was_broken_off_continues(shards, monkeypatch):
    def interrupted(shard, *rest):
        if shard.endswith("1.tar"):
            raise KeyboardInterrupt
        return scan(shard, *rest)

    scan = streams.shard_part.__globals__["scan_shard"]
    pattern = shards / "train-{0..1}.tar"
    monkeypatch.setitem(streams.shard_part.__globals__, "scan_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_source(pattern)
    scanned = []
    monkeypatch.setitem(
        streams.shard_part.__globals__, "scan_shard", lambda shard, *rest: scanned.append(shard) or scan(shard, *rest)
    )
    assert lengths(read_source(pattern)) == LENGTHS
    assert scanned == [str(shards / "train-1.tar")]


def damaged(shards):
    """Damage shard 1: its first audio is noise, and the header after the second's transcript is not one."""
    path = shards / "train-1.tar"
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    content = bytearray(path.read_bytes())
    content[members[1].offset_data : members[1].offset_data + 40] = bytes(40)
    content[members[5].offset : members[5].offset + 200] = b"x" * 200
    path.write_bytes(content)
    return members


def test_damage_is_named_and_counted_or_ends_it(shards, caplog):
    members = damaged(shards)
    pattern = shards / "train-{0..1}.tar"
    with pytest.raises(
        InputError, match=r"train-1\.tar: utt10\.flac: not audio.*; 2 parts or members of .*on_bad_audio"
    ):
        read_source(pattern)
    with caplog.at_level(logging.WARNING):
        assert lengths(read_source(pattern, "skip")) == [*LENGTHS[:3], 2101]
    said = [record.getMessage() for record in caplog.records]
    assert f"{shards}/train-1.tar: utt10.flac: not audio" in said[0]
    assert f"train-1.tar: from byte {members[5].offset} on: unreadable" in said[1]
    assert said[2].endswith("0 of 2 parts and 2 of 6 members cannot be used and are left out")
    with pytest.raises(InputError, match="utt10"):
        read_source(pattern)


def test_a_shard_that_ends_early(shards, caplog):
    path = shards / "train-1.tar"
    with tarfile.open(path) as archive:
        member = archive.getmembers()[3]
    os.truncate(path, member.offset_data + 99)
    assert lengths(read_source(path, "skip")) == [2001]
    assert f"train-1.tar: {member.name}: ends at byte" in caplog.text
    os.truncate(path, member.offset_data - 600)
    caplog.clear()
    assert lengths(read_source(path, "skip")) == [2001]
    assert "train-1.tar: from byte" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no tar at all" * 100, "is no tar"),
        (b"", "is no tar"),
        ("gz", "is no tar, or a compressed one"),
        ("text", r"has no audio \(1 of \.txt\)"),
    ],
)
def test_what_is_no_shard_of_audio(shards, caplog, content, said):
    path = shards / "train-2.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_tar(path, [("a.txt", b"WORD")], "w:gz" if content == "gz" else "w")
    pattern = shards / "train-{0..2}.tar"
    with pytest.raises(InputError, match=rf"train-2\.tar: {said}.*on_bad_audio=skip"):
        read_source(pattern)
    assert lengths(read_source(pattern, "skip")) == LENGTHS
    assert "1 of 3 parts and 0 of 6 members cannot be used" in caplog.text
    with pytest.raises(InputError, match="nothing in it can be used"):
        read_source(path, "skip")


@pytest.mark.parametrize(
    ("pattern", "said"), [("gone-{0..1}.tar", "no such shard"), ("gone-*.tar", "no shard"), ("x-{0..1.tar", "braces")]
)
def test_patterns_that_name_nothing(shards, pattern, said):
    with pytest.raises(InputError, match=said):
        read_source(shards / pattern)


def test_shards_and_manifests_of_a_server(shards, tmp_path):
    raw = read_manifest(write_corpus(tmp_path / "raw", [4000 + 100 * index for index in range(5)]))
    packed = pack_shards(raw, tmp_path / "packed/train.tsv", RATE, 20_000)
    assert len(packed) == 3
    with ShardServer(tmp_path) as server:
        other = read_source(f"{server.address}/train-{{0..1}}.tar", patience=SHORT)
        assert lengths(other) == LENGTHS
        pattern = f"{server.address}/packed/train-{{000000..000002}}.tar"
        before = len(server.asked)
        for source in (pattern, f"{server.address}/packed/train.tsv"):
            manifest = read_source(source, patience=SHORT)
            assert manifest.root == f"{server.address}/packed"
            for own, entry in zip(raw.entries, manifest.entries, strict=True):
                wave = read_audio(manifest.audio_path(entry), RATE, declared_samples=entry.samples, patience=SHORT)
                assert torch.equal(wave, read_audio(raw.audio_path(own), RATE))
        indices = {f"/packed/{index_of(shard).name}" for shard in packed}
        first = {path for _, path, _ in server.asked[before : before + 3]}
        assert first == indices  # and no shard was read from end to end


def test_an_index_that_does_not_fit_its_shard_is_not_used(shards):
    shard = shards / "train-0.tar"
    expected = [entry.path for entry in read_source(shard).entries]
    index_of(shard).write_text("/elsewhere\nother.tar:512:99999999\t5\n")
    os.utime(shard)
    assert [entry.path for entry in read_source(shard).entries] == expected


def test_a_shard_that_is_unreachable_keeps_its_place_where_it_was_read_before(shards, caplog):
    with ShardServer(shards) as server:
        pattern = f"{server.address}/train-{{0..1}}.tar"
        assert lengths(read_source(pattern, patience=SHORT)) == LENGTHS
    assert lengths(read_source(pattern, patience=Patience(5, 2))) == LENGTHS
    assert "is taken to be there" in caplog.text


def test_a_server_that_stalls_while_it_is_read(shards):
    trouble = {"/train-1.tar": "stall"}
    with ShardServer(shards, lambda path, part, number: trouble.get(path)) as server:
        pattern = f"{server.address}/train-{{0..1}}.tar"
        with pytest.raises(InputError, match=r"train-1\.tar: cannot be read after 1 attempt of up to 5 s"):
            read_source(pattern, patience=Patience(5, 1))
        assert lengths(read_source(pattern, "skip", Patience(5, 1))) == LENGTHS[:3]
        trouble.clear()
        assert lengths(read_source(pattern, patience=SHORT)) == LENGTHS


def test_a_fetched_manifest_follows_the_servers_and_says_where_it_is_wrong(tmp_path):
    path = write_corpus(tmp_path, [4000, 5000])
    with ShardServer(tmp_path) as server:
        source = f"{server.address}/train.tsv"
        assert lengths(read_source(source)) == [4000, 5000]
        path.write_text("https://host/folder\nx.flac\t7\n")
        manifest = read_source(source)
        assert (manifest.root, lengths(manifest)) == ("https://host/folder", [7])
        path.write_text("root\nno samples\n")
        with pytest.raises(InputError, match=rf"{source}:2: expected path<TAB>samples"):
            read_source(source)


@pytest.mark.parametrize(
    ("data", "subset", "expected"),
    [
        ("/data", "train", "/data/train.tsv"),
        ("/data", "train-{0..9}.tar", "/data/train-{0..9}.tar"),
        ("s3://bucket/x/", "train", "s3://bucket/x/train.tsv"),
        ("s3://bucket/x", "valid-*.tar", "s3://bucket/x/valid-*.tar"),
        ("/data/train-{0..9}.tar", "train", "/data/train-{0..9}.tar"),
        ("/data/train-{0..9}.tar", "valid", "/data/valid.tsv"),
        ("/data", "https://host/a.tar", "https://host/a.tar"),
        ("/data", "hub:org/name/config/split", "hub:org/name/config/split"),
        ("hub:org/name/config", "train", "hub:org/name/config/train"),
    ],
)
def test_what_data_and_subset_name(data, subset, expected):
    assert str(source_of(data, subset, "train")) == expected


def test_a_validation_set_by_an_absolute_path_is_refused():
    assert source_of("/data", "/x/a.tar", "/x/a.tar") == "/x/a.tar"
    with pytest.raises(InputError, match="name it as it lies in"):
        source_of("/data", "/x/a.tar", "train")
