import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.corpora.prompts import prepare as prompts
from ccc_w2v.corpora.prompts.prepare import check, prepare
from ccc_w2v.corpora.prompts.splits import LABELLED, MANIFESTS, split_of
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from tests.corpora.killed import killed_after
from tests.corpora.prompts.fake_prompts import TRICKY, debian_tree, release_tree

TOOL = Path(__file__).parents[3] / "tools" / "prepare_prompts.py"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return debian_tree(debian_tree(tmp_path_factory.mktemp("source")), "fr")


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    prepare(out, source=source, languages=("fr",))
    return out


@pytest.fixture(scope="module")
def plain(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "out"
    prepare(out, source=source)
    return out


@pytest.fixture
def copy(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "copy", ignore=shutil.ignore_patterns("audio"))


def labels(out):
    """Return {prompt: (split, words)} as fairseq would read them."""
    labelled = {}
    for split in LABELLED:
        manifest = read_manifest(out / f"{split}.tsv")
        words = (out / f"{split}.wrd").read_text().splitlines()
        for entry, line in zip(manifest.entries, words, strict=True):
            labelled[entry.path.removeprefix("en/").removesuffix(".flac")] = (split, line)
    return labelled


def paths(out, name):
    return [entry.path for entry in read_manifest(out / f"{name}.tsv").entries]


def tree(out):
    """Return every file's bytes but done.json's, which tells the time that was needed."""
    files = [file for file in out.rglob("*") if file.is_file() and file.name != "done.json"]
    return {str(file.relative_to(out)): file.read_bytes().replace(str(out).encode(), b"OUT") for file in files}


def test_labels_are_spoken_words_and_nothing_else_is_labelled(prepared):
    labelled = labels(prepared)
    for name, (_, label, _) in TRICKY.items():
        assert labelled.get(name, (None, None))[1] == label, name
    unlabelled = json.loads((prepared / "done.json").read_text())["unlabelled"]
    assert {name for name, (_, label, _) in TRICKY.items() if not label} == {
        path[3:-5] for path in unlabelled if path.startswith("en/")
    }
    assert "letters per second" in unlabelled["en/much-too-fast.flac"]
    assert "letters per second" in unlabelled["en/much-too-slow.flac"]
    assert unlabelled["en/spy-odd.flac"] == "reading of XYZZY unknown"
    assert unlabelled["en/without-text.flac"] == "no transcript"


def test_letters_and_dictionary_are_fairseqs(prepared):
    from fairseq.data.dictionary import Dictionary

    words = (prepared / "train.wrd").read_text().splitlines()
    spelled = (prepared / "train.ltr").read_text().splitlines()
    assert spelled == [" ".join("|".join(line.split())) + " |" for line in words]
    dictionary = Dictionary.load(str(prepared / "dict.ltr.txt"))
    for split in LABELLED:
        for line in (prepared / f"{split}.ltr").read_text().splitlines():
            assert dictionary.unk() not in dictionary.encode_line(line, add_if_not_exist=False, append_eos=False)
    rows = [line.split() for line in (prepared / "dict.ltr.txt").read_text().splitlines()]
    counts = [int(count) for _, count in rows]
    assert rows[0][0] == "|"
    assert counts[1:] == sorted(counts[1:], reverse=True)
    assert counts[0] == sum(len(line.split()) for line in words)


def test_no_text_and_no_recording_is_shared_between_splits(prepared):
    labelled = labels(prepared)
    texts = {split: {words for where, words in labelled.values() if where == split} for split in LABELLED}
    assert not texts["test"] & (texts["train"] | texts["valid"])
    assert not texts["valid"] & texts["train"]
    test = set(paths(prepared, "test"))
    assert not test & set(paths(prepared, "pretrain"))
    assert not test & set(paths(prepared, "pretrain_valid"))
    assert not set(paths(prepared, "pretrain_valid")) & set(paths(prepared, "pretrain"))


def test_shares_of_the_splits_are_as_stated():
    splits = [split_of(f"TEXT NUMBER {index}") for index in range(20_000)]
    assert splits.count("test") / len(splits) == pytest.approx(0.11, abs=0.01)
    assert splits.count("valid") / len(splits) == pytest.approx(0.05, abs=0.01)
    assert splits == [split_of(f"TEXT NUMBER {index}") for index in range(20_000)]


def test_pretraining_has_unlabelled_speech_and_other_languages(prepared):
    heard = {*paths(prepared, "pretrain"), *paths(prepared, "pretrain_valid")}
    assert {"en/without-text.flac", "en/much-too-long.flac", "en/spy-odd.flac"} <= heard
    assert any(path.startswith("fr/") for path in paths(prepared, "pretrain"))
    assert any(path.startswith("fr/") for path in paths(prepared, "pretrain_valid"))
    assert not any("beep" in path or "silence" in path or "too-short" in path for path in heard)
    assert all(path.startswith("en/") for split in LABELLED for path in paths(prepared, split))


def test_noise_is_what_is_no_speech_and_no_silence(prepared):
    assert paths(prepared, "noise") == ["en/beep.flac", "en/confbridge-join.flac"]


def test_audio_is_mono_16_khz_16_bit_and_the_same_sound(tmp_path, source):
    time = np.arange(8000) / 8000
    soundfile.write(tmp_path / "tone.wav", np.sin(2 * np.pi * 1000 * time), 8000, subtype="PCM_16")
    assert prompts._resample(tmp_path / "tone.wav", tmp_path / "x/tone.flac") == 16000
    info = soundfile.info(tmp_path / "x/tone.flac")
    assert (info.samplerate, info.channels, info.subtype, info.format) == (16000, 1, "PCM_16", "FLAC")
    wave, _ = soundfile.read(tmp_path / "x/tone.flac")
    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert np.abs(wave - expected)[200:-200].max() < 2e-3


def test_full_scale_is_clipped_not_wrapped(tmp_path):
    soundfile.write(tmp_path / "square.wav", np.repeat([1.0, -1.0] * 20, 100), 8000, subtype="PCM_16")
    prompts._resample(tmp_path / "square.wav", tmp_path / "square.flac")
    wave, _ = soundfile.read(tmp_path / "square.flac")
    assert (wave[20:180] > 0.8).all()
    assert (wave[220:380] < -0.8).all()


def test_a_second_call_does_nothing(prepared, source, capsys, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in prepared.rglob("*")}
    monkeypatch.setattr(prompts, "find_recordings", lambda *_: pytest.fail("looked for recordings again"))
    done = prepare(prepared, source=source, languages=("fr",))
    assert done == json.loads((prepared / "done.json").read_text())
    assert before == {file: file.stat().st_mtime_ns for file in prepared.rglob("*")}
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_missing_file_or_other_options_prepare_again(tmp_path, source):
    out = tmp_path / "out"
    prepare(out, source=source)
    first = tree(out)
    (out / "audio" / paths(out, "noise")[0]).unlink()
    prepare(out, source=source)
    assert tree(out) == first
    prepare(out, source=source, languages=("fr",))
    assert any(path.startswith("fr/") for path in paths(out, "pretrain"))
    out.rename(tmp_path / "moved")
    prepare(tmp_path / "moved", source=source, languages=("fr",))
    assert read_manifest(tmp_path / "moved" / "train.tsv").root == str(tmp_path / "moved" / "audio")


@pytest.mark.parametrize("writes", [0, 7, 40])
def test_a_killed_preparation_and_a_second_call_give_the_same(tmp_path, source, plain, writes):
    with killed_after(writes):
        prepare(tmp_path / "killed", source=source)
    assert not (tmp_path / "killed" / "done.json").exists()
    prepare(tmp_path / "killed", source=source)
    assert tree(tmp_path / "killed") == tree(plain)


def test_both_layouts_give_the_same_corpus(tmp_path, source, prepared):
    prepare(tmp_path / "out", source=release_tree(tmp_path / "release"))
    assert labels(tmp_path / "out") == labels(prepared)
    done = json.loads((tmp_path / "out" / "done.json").read_text())
    assert done["origin"] == {"en": f"folder {tmp_path / 'release'}"}
    assert done["lists"] == check(tmp_path / "out")
    assert set(done["lists"]) == set(MANIFESTS)
    licence = (tmp_path / "out" / "LICENSE.txt").read_text()
    assert "Recorded by:\nA Speaker" in licence
    assert "https://creativecommons.org/licenses/by-sa/3.0/" in licence


def spoil(path, change):
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train.wrd", lambda lines: lines[1:], "lines that do not fit train.wrd"),
        ("train.tsv", lambda lines: [*lines[:-1], lines[-1].split("\t")[0] + "\t5\n"], "the manifest declares 5"),
        ("noise.tsv", lambda lines: [*lines, "en/absent.flac\t100\n"], "no such file"),
    ],
)
def test_check_finds_what_was_spoiled(copy, name, change, message):
    spoil(copy / name, change)
    with pytest.raises(InputError, match=message):
        check(copy)


@pytest.mark.parametrize("name", ["pretrain", "pretrain_valid"])
def test_check_finds_a_test_recording_in_pretraining(copy, name):
    tested = (copy / "test.tsv").read_text().splitlines(keepends=True)[1]
    spoil(copy / f"{name}.tsv", lambda lines: [*lines, tested])
    with pytest.raises(InputError, match=rf"{name}\.tsv: en/.* is in test\.tsv too"):
        check(copy)


def test_check_finds_a_shared_text(copy):
    for kind in ("wrd", "ltr"):
        shared = (copy / f"train.{kind}").read_text().splitlines(keepends=True)[0]
        spoil(copy / f"test.{kind}", lambda lines, shared=shared: [shared, *lines[1:]])
    with pytest.raises(InputError, match=r"is in train\.wrd too"):
        check(copy)


def test_mistakes_are_one_sentence(tmp_path, source):
    with pytest.raises(InputError, match="unknown language 'xx' of the voice prompts; available: en, es"):
        prepare(tmp_path / "out", source=source, languages=("xx",))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        prepare(tmp_path / "file", source=source)
    small = release_tree(tmp_path / "small")
    for file in small.glob("ordinary*.wav"):
        file.unlink()
    with pytest.raises(InputError, match="use a whole release"):
        prepare(tmp_path / "out", source=small)
    (small / "digits/1.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"digits/1\.wav: not audio that libsndfile reads"):
        prepare(tmp_path / "out", source=small)
    assert not (tmp_path / "out").exists()


def run_tool(*arguments, **environment):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def test_the_tool_prepares_and_prints_a_table(tmp_path, source):
    result = run_tool("--out", tmp_path / "out", "--source", source, "--languages", "en,fr")
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == ["list", *MANIFESTS]
    assert {row[0]: int(row[1]) for row in rows[1:]} == {name: len(paths(tmp_path / "out", name)) for name in MANIFESTS}


def test_the_tool_ends_a_missing_source_with_one_line_and_code_2(tmp_path):
    (tmp_path / "empty").mkdir()
    result = run_tool("--out", tmp_path / "out", "--upstream", "http://127.0.0.1:9/", PATH=str(tmp_path / "empty"))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: no source of the voice prompts")
