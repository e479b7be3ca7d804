"""The corpus small: its pinned lists, and its preparation from folders, archives and LibriSpeech."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import soundfile

from ccc_w2v.corpora.small import prepare as small
from ccc_w2v.corpora.small import sources as small_sources
from ccc_w2v.corpora.small.lists import (
    DEV_SPEAKERS,
    LISTS,
    SAMPLE_RATE,
    TEST_SPEAKERS,
    TRAIN_SPEAKERS,
    assigned_lists,
    fold_of,
    labelled_subset,
    pinned_list,
    require_unheard,
    speaker_of,
)
from ccc_w2v.corpora.small.sources import SOURCES, archive_url
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from tests.corpora.archive_server import Upstream
from tests.corpora.killed import killed_after
from tests.corpora.librispeech.fake_librispeech import write_chapter
from tests.corpora.small.fake_small import pinned_lists, write_archive, write_repositories
from tests.run_tool import run_tool


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    return write_repositories(tmp_path_factory.mktemp("repositories"))


@pytest.fixture(autouse=True)
def pinned(repositories, monkeypatch):
    lists = pinned_lists(repositories)
    monkeypatch.setattr(small, "pinned_list", lists.__getitem__)
    return lists


def paths(out, name):
    manifest = read_manifest(out / f"{name}.tsv")
    return [manifest.audio_path(entry) for entry in manifest.entries]


def hours(name):
    listed = [r.samples for source in SOURCES if source != "noises" for r in pinned_list(source) if name in r.lists]
    return len(listed), sum(listed) / SAMPLE_RATE / 3600


def test_the_pinned_lists_are_those_of_the_rule():
    for source in SOURCES:
        recordings = pinned_list(source)
        assigned = assigned_lists(source, {recording.name: recording.samples for recording in recordings})
        assert {recording.name: recording.lists for recording in recordings} == assigned
        assert len({recording.digest for recording in recordings}) == len(recordings)
    assert [len(pinned_list(source)) for source in SOURCES] == [1313, 251, 619, 240]


def test_the_pinned_lists_have_the_published_hours():
    expected = {"unlabelled": (1623, 3.97), "train": (753, 1.62), "dev": (165, 0.27), "test": (395, 0.81)}
    assert {name: (hours(name)[0], round(hours(name)[1], 2)) for name in expected} == expected
    assert hours("train_1h")[1] == pytest.approx(1, abs=0.01)
    assert hours("train_10m")[1] == pytest.approx(1 / 6, abs=0.005)


def test_no_test_speaker_is_heard_in_the_pinned_lists():
    lists = {name: [r.name for source in SOURCES for r in pinned_list(source) if name in r.lists] for name in LISTS}
    require_unheard(lists)
    assert {speaker_of(name) for name in lists["test"]} == set(TEST_SPEAKERS)
    for name in ("unlabelled", "train", "train_1h", "train_10m"):
        speakers = {speaker_of(path) for path in lists[name]}
        assert not speakers & set(TEST_SPEAKERS + DEV_SPEAKERS)
        assert speakers - {""} >= set(TRAIN_SPEAKERS)
    assert {fold_of(name) for name in lists["noise_train"]} == {"1", "2"}
    assert {fold_of(name) for name in lists["noise_test"]} == {"5"}
    assert set(lists["train_10m"]) < set(lists["train_1h"]) < set(lists["train"]) < set(lists["unlabelled"])


def test_labelled_subsets_are_spread_over_the_speakers():
    train = {r.name: r.samples for r in pinned_list("librispeech") if "train" in r.lists}
    longest = max(train.values())
    for seconds in (600, 3600):
        subset = labelled_subset(train, seconds)
        samples = {
            speaker: sum(train[name] for name in subset if speaker_of(name) == speaker) for speaker in TRAIN_SPEAKERS
        }
        assert seconds <= sum(samples.values()) / SAMPLE_RATE <= seconds + longest / SAMPLE_RATE
        assert max(samples.values()) - min(samples.values()) <= longest
    assert labelled_subset(train, 10**9) == sorted(train)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("unlabelled", "/a/84/121123/84-121123-0000.flac"),
        ("train", "1462/170138/1462-170138-0001.wav"),
        ("dev", "2902-9006-0000"),
        ("test", "174-168635-0000"),
        ("noise_train", "001 - Dog bark/5-203128-A.flac"),
        ("noise_test", "001 - Dog bark/1-203128-A.flac"),
    ],
)
def test_what_must_not_be_heard_is_refused(name, path):
    with pytest.raises(InputError, match=f"list '{name}' of the corpus small holds {path}"):
        require_unheard({name: ["clean/0075d273", path] if "noise" not in name else [path]})


def test_from_folders(repositories, tmp_path):
    done = small.prepare(tmp_path, source=repositories)
    assert done["lists"]["train"]["recordings"] == 24
    assert done["lists"]["unlabelled"]["recordings"] == 32
    assert done["lists"]["dev"]["known_speakers"] == 2
    assert done["lists"]["test"]["recordings"] == 12
    small.check(tmp_path)
    for name in ("train", "train_1h", "train_10m", "dev", "test"):
        manifest = read_manifest(tmp_path / f"{name}.tsv")
        words = (tmp_path / f"{name}.wrd").read_text().splitlines()
        assert len(words) == len((tmp_path / f"{name}.ltr").read_text().splitlines()) == len(manifest)
        for path, text in zip(paths(tmp_path, name), words, strict=True):
            stem = path.rsplit("/", 1)[-1].removesuffix(".wav")
            transcripts = path.replace(stem + ".wav", "-".join(stem.split("-")[:2]) + ".trans.txt")
            assert f"{stem} {text}\n" in Path(transcripts).read_text()
    # MP3 at 16 kHz is read as it is, OGG at 44.1 kHz is converted.
    assert all(path.startswith(str(repositories)) for path in paths(tmp_path, "unlabelled"))
    noises = paths(tmp_path, "noise_train")
    assert all(path.startswith(str(tmp_path / "audio/noises")) for path in noises)
    assert {(soundfile.info(path).samplerate, soundfile.info(path).format) for path in noises} == {(16000, "FLAC")}
    assert (tmp_path / "dict.ltr.txt").read_text().startswith("| 94802\nE 51860\n")


def test_written_manifests_let_nobody_hear_the_test(repositories, tmp_path):
    small.prepare(tmp_path, source=repositories)
    test = {path.rsplit("/", 1)[-1] for path in paths(tmp_path, "test")}
    for name in set(LISTS) - {"test"}:
        assert not test & {path.rsplit("/", 1)[-1] for path in paths(tmp_path, name)}
        assert not {speaker_of(path) for path in paths(tmp_path, name)} & set(TEST_SPEAKERS)
    manifest = tmp_path / "train.tsv"
    manifest.write_text(manifest.read_text() + "84/841/84-841-0000.wav\t16000\n")
    with pytest.raises(InputError, match="list 'train' of the corpus small holds 84/841/84-841-0000.wav"):
        small.check(tmp_path)


def test_a_second_call_does_nothing_and_other_options_do(repositories, tmp_path, capsys):
    first = small.prepare(tmp_path, source=repositories)
    assert small.prepare(tmp_path, source=repositories) == first
    assert "prepared already" in capsys.readouterr().out
    (tmp_path / "audio/noises/002 - Rain/1-30001-A.flac").unlink()
    small.prepare(tmp_path, source=repositories)
    assert "prepared already" not in capsys.readouterr().out
    assert all(soundfile.info(path).samplerate == 16000 for path in paths(tmp_path, "noise_train"))


@pytest.mark.parametrize("writes", [1, 7, 20])
def test_a_preparation_that_was_killed_continues(repositories, tmp_path, writes):
    with killed_after(writes):
        small.prepare(tmp_path / "out", source=repositories)
    assert not (tmp_path / "out/small.json").exists()
    small.prepare(tmp_path / "out", source=repositories)
    small.prepare(tmp_path / "straight", source=repositories)
    for name in LISTS:
        assert paths(tmp_path / "out", name) == [
            path.replace(str(tmp_path / "straight"), str(tmp_path / "out"))
            for path in paths(tmp_path / "straight", name)
        ]


@pytest.fixture
def server(repositories, tmp_path):
    """Serve each archive by a server of its own that breaks off once and, as GitHub's, knows no ranges."""
    upstreams = {}
    for name, source in SOURCES.items():
        archive = write_archive(repositories, source.name, source.commit)
        upstreams[name] = Upstream(archive, cuts=(len(archive) // 2,), ranges=False).__enter__()
    yield upstreams
    for upstream in upstreams.values():
        upstream.__exit__()


def test_from_archives(repositories, server, tmp_path, monkeypatch):
    addresses = {source.commit: server[name].address for name, source in SOURCES.items()}
    monkeypatch.setattr(
        small_sources, "archive_url", lambda source, _: addresses[source.commit] + archive_url(source, "")[1:]
    )
    small.prepare(tmp_path / "out", server="unused")
    assert all(len(upstream.asked) == 2 for upstream in server.values())
    assert sorted(path.name for path in (tmp_path / "out/download").iterdir()) == sorted(
        s.name for s in SOURCES.values()
    )
    small.prepare(tmp_path / "folders", source=repositories)
    assert (tmp_path / "out/test.wrd").read_text() == (tmp_path / "folders/test.wrd").read_text()
    # What is unpacked is not fetched again.
    (tmp_path / "out/small.json").unlink()
    small.prepare(tmp_path / "out", server="unused")
    assert all(len(upstream.asked) == 2 for upstream in server.values())


def test_the_addresses_are_githubs_at_pinned_commits():
    assert archive_url(SOURCES["noises"]) == (
        "https://codeload.github.com/karolpiczak/ESC-10/tar.gz/553c8f1743b9dba6b282e1323c3ca8fa76923448"
    )
    assert all(len(bytes.fromhex(source.commit)) == 20 for source in SOURCES.values())


def test_an_archive_put_there_by_hand_is_taken(repositories, tmp_path):
    for source in SOURCES.values():
        downloads = tmp_path / "download"
        downloads.mkdir(exist_ok=True)
        archive = downloads / f"{source.name}-{source.commit}"
        write_archive(repositories, source.name, source.commit)
        shutil.copy(repositories / f"{source.name}.tar.gz", archive.with_name(archive.name + ".tar.gz"))
    small.prepare(tmp_path, server="http://127.0.0.1:9")
    assert len(paths(tmp_path, "test")) == 12


def test_a_recording_that_is_not_the_pinned_one_is_refused(repositories, tmp_path):
    shutil.copytree(repositories, tmp_path / "copy")
    file = sorted((tmp_path / "copy/Resemblyzer").rglob("*.flac"))[2]
    wave, rate = soundfile.read(file, dtype="int16")
    # The same samples in another container are the same recording.
    soundfile.write(file.with_suffix(".wav"), wave, rate)
    file.unlink()
    small.prepare(tmp_path / "out", source=tmp_path / "copy")
    wave[100] += 1
    soundfile.write(file, wave, rate)
    with pytest.raises(InputError, match=rf"{file}: is not the recording that manifests/ pins \(1 of 4 are not\)"):
        small.prepare(tmp_path / "other", source=tmp_path / "copy")
    assert not list((tmp_path / "other").glob("*.tsv"))


def test_librispeechs_own_files_do_as_well(repositories, pinned, tmp_path):
    tree = tmp_path / "corpora/LibriSpeech"
    copy = repositories / "Speaker_partition_module/data/LibriSpeech/dev-clean"
    for recording in pinned["librispeech"]:
        wave, rate = soundfile.read(copy / f"{recording.name}.wav")
        target = tree / "dev-clean" / f"{recording.name}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, wave, rate)
        for text in (copy / recording.name).parent.glob("*.txt"):
            shutil.copy(text, target.parent)
    small.prepare(tmp_path / "flac", source=repositories, librispeech=tmp_path / "corpora")
    small.prepare(tmp_path / "mp3", source=repositories)
    assert {path[-5:] for path in paths(tmp_path / "flac", "test")} == {".flac"}
    for name in ("train_10m.wrd", "test.ltr"):
        assert (tmp_path / "flac" / name).read_text() == (tmp_path / "mp3" / name).read_text()


def test_parts_of_librispeech_replace_the_untranscribed_hours(repositories, tmp_path):
    tree = tmp_path / "LibriSpeech"
    write_chapter(tree / "train-clean-5", 1088, 10880, 3, (1.0, 1.5))
    for speaker in (84, 1462, 5338):
        write_chapter(tree / "dev-clean-2", speaker, speaker * 10 + 5, 2, (1.0, 1.5))
    options = {"source": repositories, "librispeech": tree}
    done = small.prepare(tmp_path / "out", unlabelled=["train-clean-5", "dev-clean-2"], **options)
    heard = {speaker_of(path) for path in paths(tmp_path / "out", "unlabelled")}
    assert heard == {*TRAIN_SPEAKERS, "1088", "5338"}
    assert done["lists"]["unlabelled"]["recordings"] == 24 + 3 + 2
    small.check(tmp_path / "out")
    shutil.rmtree(tree / "dev-clean-2/5338")
    with pytest.raises(InputError, match="has no speaker but those of dev and test"):
        small.prepare(tmp_path / "out", unlabelled=["dev-clean-2"], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "{tmp}"}, "holds no Speaker_partition_module/data/LibriSpeech/dev-clean; unpack https://codeload"),
        ({"source": "{repos}", "unlabelled": "train-clean-100"}, "pass the folder that holds them as --librispeech"),
        ({"source": "{repos}", "librispeech": "{tmp}"}, "lacks dev-clean; name a folder"),
        ({"librispeech": "{tmp}", "unlabelled": "train-clean-100"}, "lacks train-clean-100; name a folder"),
        ({"server": "http://127.0.0.1:9"}, "cannot be fetched .* pass unpacked folders as --from"),
    ],
)
def test_bad_options_are_one_line(repositories, tmp_path, capsys, options, message):
    filled = {key: value.format(tmp=tmp_path, repos=repositories) for key, value in options.items()}
    assert run_tool("prepare_small", out=tmp_path / "out", **filled) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert re.search(message, captured.err)
    assert not list(tmp_path.glob("out/*.tsv"))


def test_a_missing_recording_is_named(repositories, tmp_path):
    shutil.copytree(repositories, tmp_path / "copy")
    (tmp_path / "copy/ESC-10/002 - Rain/2-30001-A.ogg").unlink()
    with pytest.raises(
        InputError, match=r"lacks 1 of the 6 recordings of karolpiczak/ESC-10, the first is 002 - Rain/2"
    ):
        small.prepare(tmp_path / "out", source=tmp_path / "copy")
    text = next((tmp_path / "copy").rglob("84-841.trans.txt"))
    text.write_text(text.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match=r"84-841-0001.wav: no transcript"):
        small.prepare(tmp_path / "out", source=tmp_path / "copy")


def test_the_tool_prints_the_lists(repositories, tmp_path, capsys):
    assert run_tool("prepare_small", out=tmp_path, source=repositories) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["list", *LISTS]
    assert json.loads((tmp_path / "small.json").read_text())["lists"]["test"]["recordings"] == int(rows[6][1])
