"""A corpus packed in shares: the recordings and labels of one call, in its order, without a copy of any audio."""

import os
import shutil
import tarfile
import zipfile

import pytest
import soundfile

from ccc_w2v.cli.main import main
from ccc_w2v.data import merge_packed, shard_packing
from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.packed import archive_path
from ccc_w2v.data.shard_packing import pack_shards
from ccc_w2v.data.stored_audio import audio_bytes
from ccc_w2v.data.streams import read_source
from tests.fake_corpora import RATE, speech_like, write_corpus, write_labels

MOST = 25_000  # bytes: two recordings
LENGTHS = [4000, 5000, 6000, 7000, 4500, 6500, 5500]


@pytest.fixture
def corpus(tmp_path):
    path = write_corpus(tmp_path / "raw", LENGTHS)
    write_labels(path, [f"WORD {letter}" for letter in "ABCDEFG"])
    return path


def pack(corpus, out, kind, *words, shard=None):
    share = ["--shard", shard] if shard else []
    size = ["--max-gib", str(MOST / 2**30)]
    return main(["pack", str(corpus), "--out", str(out), "--format", kind, *size, *share, *words])


def packed_in_shares(corpus, out, kind, count=3):
    for number in range(count, 0, -1):
        assert pack(corpus, out, kind, shard=f"{number}/{count}") == 0
    assert not out.exists()


def content(packed):
    manifest = read_source(packed)
    return [(entry.samples, audio_bytes(manifest.audio_path(entry))) for entry in manifest.entries]


def archives(folder, kind):
    return sorted(folder.glob(f"*.{kind}"))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_shares_merge_to_the_packed_corpus(corpus, tmp_path, capsys, kind):
    assert pack(corpus, tmp_path / "straight/train.tsv", kind) == 0
    out = tmp_path / "merged/train.tsv"
    packed_in_shares(corpus, out, kind, 5)
    shares = archives(out.parent, f"tsv.shards/*/*.{kind}")
    assert main(["merge", str(out)]) == 0
    assert content(out) == content(tmp_path / "straight/train.tsv")
    assert [samples for samples, _ in content(out)] == LENGTHS
    for kind_of_label in (".wrd", ".ltr"):
        assert read_labels(read_manifest(out), kind_of_label) == read_labels(read_manifest(corpus), kind_of_label)
    expected = {path.name for path in (tmp_path / "straight").iterdir()}
    names = [archive_path(out, kind, number).name for number in range(len(shares))]
    assert names[0] == {"tar": "train-000000.tar", "zip": "train_000.zip"}[kind]
    assert [path.name for path in archives(out.parent, kind)] == names
    assert {path.name for path in out.parent.iterdir()} - {f"{name}.tsv" for name in names} == {
        *names,
        "train.tsv.shards",
        *(name for name in expected if not name.startswith(("train-", "train_"))),
    }
    # The same files, by a second name: nothing was copied.
    assert [path.stat().st_ino for path in archives(out.parent, kind)] == [path.stat().st_ino for path in shares]
    inside = []
    for path in archives(out.parent, kind):
        with tarfile.open(path) if kind == "tar" else zipfile.ZipFile(path) as archive:
            inside += archive.getnames() if kind == "tar" else archive.namelist()
    assert inside == [f"train{number}.wav" for number in range(len(LENGTHS))]
    # The command without --shard, and a second merge, find it done.
    times = {path: path.stat().st_mtime_ns for path in out.parent.iterdir()}
    assert pack(corpus, out, kind) == 0
    assert main(["merge", str(out)]) == 0
    assert times == {path: path.stat().st_mtime_ns for path in out.parent.iterdir()}
    shutil.rmtree(out.with_name("train.tsv.shards"))
    assert content(out) == content(tmp_path / "straight/train.tsv")


def test_merged_shards_are_a_stream(corpus, tmp_path):
    out = tmp_path / "merged/train.tsv"
    packed_in_shares(corpus, out, "tar", 2)
    assert main(["merge", str(out)]) == 0
    count = len(archives(out.parent, "tar"))
    assert content(out.parent / f"train-{{000000..00000{count - 1}}}.tar") == content(out)


def test_recordings_without_a_name_get_the_numbers_of_the_whole(corpus, tmp_path):
    """Of a stream packed again, whose members have no paths: numbers of a share alone would come twice."""
    assert pack(corpus, tmp_path / "first/train.tsv", "tar") == 0
    source = tmp_path / "first/train-{000000..000003}.tar"
    out = tmp_path / "again/train.tsv"
    packed_in_shares(source, out, "tar", 3)
    assert main(["merge", str(out)]) == 0
    inside = []
    for path in archives(out.parent, "tar"):
        with tarfile.open(path) as archive:
            inside += archive.getnames()
    assert inside == [f"{number:09}.wav" for number in range(len(LENGTHS))]
    assert content(out) == content(tmp_path / "first/train.tsv")


def test_a_killed_share_continues_after_its_last_whole_shard(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out/train.tsv"
    whole, packed = shard_packing._checked, []

    def interrupted(manifest, entry, rate):
        if len(packed) == 3:
            raise KeyboardInterrupt
        packed.append(entry.line)
        return whole(manifest, entry, rate)

    monkeypatch.setattr(shard_packing, "_checked", interrupted)
    assert pack(corpus, out, "tar", shard="2/2") == 130
    first = archives(tmp_path / "out/train.tsv.shards/2-of-2", "tar")
    assert len(first) == 1
    time = first[0].stat().st_mtime_ns
    kept = len(read_manifest(f"{first[0]}.tsv"))
    last = len(LENGTHS) + 2 - packed[0]
    packed.clear()
    monkeypatch.setattr(shard_packing, "_checked", lambda *rest: packed.append(rest[1].line) or whole(*rest))
    assert pack(corpus, out, "tar", shard="2/2") == 0
    assert first[0].stat().st_mtime_ns == time
    assert len(set(packed)) == last - kept
    assert pack(corpus, out, "tar", shard="1/2") == 0
    assert main(["merge", str(out)]) == 0
    assert [samples for samples, _ in content(out)] == LENGTHS


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("at", range(4))
def test_an_interrupted_merge_continues(corpus, tmp_path, monkeypatch, at, links):
    """Also where the file system has no hard links, so that the first files have moved already."""
    out = tmp_path / "merged/train.tsv"
    packed_in_shares(corpus, out, "tar", 2)
    place, placed = merge_packed._place, []

    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    def interrupted(archive):
        if len(placed) == at:
            raise KeyboardInterrupt
        placed.append(archive)
        place(archive)

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(merge_packed, "_place", interrupted)
    assert main(["merge", str(out)]) == 130
    assert not out.exists()
    monkeypatch.setattr(merge_packed, "_place", place)
    assert main(["merge", str(out)]) == 0
    assert [samples for samples, _ in content(out)] == LENGTHS
    left = archives(out.parent, "tsv.shards/*/*.tar")
    assert len(left) == (len(archives(out.parent, "tar")) if links else 0)


def test_a_merge_takes_what_is_whole_of_the_share_and_of_an_earlier_merge(corpus, tmp_path):
    out = tmp_path / "out/train.tsv"
    packed_in_shares(corpus, out, "tar", 2)
    assert main(["merge", str(out)]) == 0
    expected = content(out)
    damaged = archives(out.with_name("train.tsv.shards") / "1-of-2", "tar")[0]
    short = damaged.read_bytes()[:-512]
    damaged.unlink()  # its other name is another file from here on
    damaged.write_bytes(short)
    archives(out.parent, "tar")[-1].unlink()
    assert main(["merge", str(out)]) == 0
    assert content(out) == expected


def test_what_a_stopped_call_without_shards_has_left_is_replaced(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out/train.tsv"
    whole = shard_packing.write_manifest

    def stopped(path, *rest):
        if path == out:
            raise KeyboardInterrupt
        whole(path, *rest)

    monkeypatch.setattr(shard_packing, "write_manifest", stopped)
    with pytest.raises(KeyboardInterrupt):
        pack_shards(read_manifest(corpus), out, RATE, 1)
    monkeypatch.undo()
    assert len(archives(out.parent, "tar")) == len(LENGTHS)
    for number in (1, 2):
        words = ["pack", str(corpus), "--out", str(out), "--format", "tar", "--max-gib", str(1 / 2**30)]
        assert main([*words, "--shard", f"{number}/2"]) == 0
    # As if a share had made do with fewer.
    extra = out.with_name("train-000007.tar")
    extra.touch()
    assert main(["merge", str(out)]) == 0
    assert not extra.exists()
    assert [samples for samples, _ in content(out)] == LENGTHS


def cut_off(folder):
    path = archives(folder / "2-of-2", "tar")[0]
    path.write_bytes(path.read_bytes()[:-512])


def gone(folder):
    archives(folder / "2-of-2", "tar")[0].unlink()


def other_share(folder):
    shutil.copy(folder / "1-of-2/train.tsv", folder / "2-of-2/train.tsv")


def no_line(folder):
    own = folder / "2-of-2/train.tsv"
    own.write_text("".join(own.read_text().splitlines(keepends=True)[:-1]))


def other_list(folder):
    manifest = folder.parent.parent / "raw/train.tsv"
    lines = read_manifest(manifest)
    write_manifest(manifest, lines.root, [(entry.path, entry.samples) for entry in lines.entries[::-1]])


def unfinished(folder):
    (folder / "1-of-2/shard.json").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut_off, "is gone or has another size than when it was packed; run that shard again"),
        (gone, "is gone or has another size than when it was packed; run that shard again"),
        (other_share, "2-of-2/train.tsv: is not the list of that shard's archives; run that shard again"),
        (no_line, "its shards hold 6 recordings that are not the 7 of"),
        (other_list, "is not the manifest that the shards were made of"),
        (unfinished, "1 of 2 shards are not finished: 1"),
    ],
)
def test_shares_that_do_not_fit_are_one_line_and_nothing_is_written(corpus, tmp_path, capsys, harm, message):
    out = tmp_path / "out/train.tsv"
    packed_in_shares(corpus, out, "tar", 2)
    capsys.readouterr()
    harm(out.with_name("train.tsv.shards"))
    assert main(["merge", str(out)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert [path.name for path in out.parent.iterdir()] == ["train.tsv.shards"]


def test_a_share_that_lost_an_archive_packs_it_again(corpus, tmp_path):
    out = tmp_path / "out/train.tsv"
    packed_in_shares(corpus, out, "tar", 2)
    gone(out.with_name("train.tsv.shards"))
    assert pack(corpus, out, "tar", shard="2/2") == 0
    assert main(["merge", str(out)]) == 0
    assert [samples for samples, _ in content(out)] == LENGTHS


def test_shares_of_other_settings_or_places_are_refused(corpus, tmp_path, capsys):
    out = tmp_path / "out/train.tsv"
    assert pack(corpus, out, "tar", shard="1/2") == 0
    assert pack(corpus, out, "zip", shard="2/2") == 0
    capsys.readouterr()
    assert main(["merge", str(out)]) == 2
    assert "2-of-2: does not belong to 1-of-2: it differs in format" in capsys.readouterr().err
    assert pack(corpus, out, "tar", shard="2/2") == 2
    assert "holds a shard made with other settings (format)" in capsys.readouterr().err
    assert pack(corpus, out, "tar", "--overwrite", shard="2/2") == 0
    out.write_text("somebody's\n")
    capsys.readouterr()
    assert main(["merge", str(out)]) == 2
    assert "no record says that this command wrote it" in capsys.readouterr().err
    assert out.read_text() == "somebody's\n"
    assert main(["merge", str(out), "--overwrite"]) == 0
    assert [samples for samples, _ in content(out)] == LENGTHS
    assert pack(corpus, corpus, "tar", shard="1/2") == 2
    assert "train.tsv: is what this command reads" in capsys.readouterr().err
    soundfile.write(corpus.parent / "audio/train6.wav", speech_like(5499, 1), RATE)
    assert pack(corpus, tmp_path / "new.tsv", "tar", shard="2/2") == 2
    assert "raw/train.tsv:8: " in capsys.readouterr().err
