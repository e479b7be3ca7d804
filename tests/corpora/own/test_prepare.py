"""A user's folder as users have it: mixed formats, rates, channels and names; and what is wrong with it in one line."""

import json

import numpy as np
import pytest
import soundfile

from ccc_w2v.cli.main import main
from ccc_w2v.corpora.own.prepare import ManifestOptions, prepare
from ccc_w2v.corpora.own.recordings import speaker_of
from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from tests.fake_corpora import speech_like

WORDS = ["The cat.", "A hat!", "It sat", "that's it", "he is", "is it?"]


def write_recordings(folder, speakers=4, per_speaker=2, suffix=".wav", rate=16000, text=True):
    """Write recordings of 0.6 s and more below a folder for each speaker, a .txt beside each."""
    for speaker in range(speakers):
        (folder / f"s{speaker}").mkdir(parents=True)
        for index in range(per_speaker):
            path = folder / f"s{speaker}" / f"rec {index}{suffix}"
            soundfile.write(path, speech_like(rate * 6 // 10 + 100 * speaker, 7 * speaker + index), rate)
            if text:
                path.with_suffix(".txt").write_text(WORDS[(speaker + index) % len(WORDS)] + "\n")
    return folder


def listed(out, name):
    """The paths, samples and words of a list."""
    manifest = read_manifest(out / f"{name}.tsv")
    words = read_labels(manifest, ".wrd") or [None] * len(manifest)
    return [(entry.path, entry.samples, text) for entry, text in zip(manifest.entries, words, strict=True)]


def test_lists_labels_and_audio(tmp_path):
    folder, out = write_recordings(tmp_path / "in"), tmp_path / "out"
    prepared = prepare(folder, out, ManifestOptions(dev=0.25, test=0.25))
    lists = {name: listed(out, name) for name in ("train", "dev", "test", "pretrain")}
    assert {name: len(lines) for name, lines in lists.items()} == {"train": 4, "dev": 2, "test": 2, "pretrain": 4}
    speakers = {name: {path.split("/")[0] for path, *_ in lines} for name, lines in lists.items()}
    assert not speakers["train"] & speakers["dev"]
    assert not speakers["train"] & speakers["test"]
    assert not speakers["dev"] & speakers["test"]
    for name, lines in lists.items():
        for path, samples, text in lines:
            audio = soundfile.info(out / "audio" / path)
            assert (audio.samplerate, audio.channels, audio.frames, audio.format) == (16000, 1, samples, "FLAC")
            original = folder / path.replace("rec_", "rec ").replace(".flac", ".txt")
            expected = original.read_text().strip().upper().strip(".!?")
            assert text == (None if name == "pretrain" else expected)
    symbols = [line.split()[0] for line in (out / "dict.ltr.txt").read_text().splitlines()]
    spelt = {
        letter for name in ("train", "dev", "test") for *_, text in lists[name] for letter in text.replace(" ", "")
    }
    assert set(symbols) == spelt | {"|"}
    assert prepared.lists["train"]["speakers"] == 2
    assert json.loads((out / "manifest.json").read_text())["lists"] == prepared.lists


@pytest.mark.parametrize(("suffix", "rate"), [(".flac", 44100), (".mp3", 22050), (".ogg", 8000), (".wav", 8000)])
def test_any_format_and_rate(suffix, rate, tmp_path):
    folder = write_recordings(tmp_path / "in", suffix=suffix, rate=rate)
    prepare(folder, tmp_path / "out", ManifestOptions(dev=0.25, test=0.25))
    for path, samples, _ in listed(tmp_path / "out", "train"):
        # 0.6 s and a little more for each speaker.
        assert 9600 <= samples <= 9600 + 16000 / rate * 400 + 16
        assert np.abs(soundfile.read(tmp_path / "out" / "audio" / path)[0]).max() > 0.01


def test_long_mp3_has_no_seams(tmp_path, capfd):
    folder = tmp_path / "in"
    (folder / "s0").mkdir(parents=True)
    soundfile.write(folder / "s0" / "talk.mp3", speech_like(130 * 16000, 0), 16000)
    prepare(folder, tmp_path / "out", ManifestOptions(dev=0.0, test=0.0, longest_seconds=50.0))
    whole = soundfile.read(folder / "s0" / "talk.mp3", dtype="float32")[0]
    parts = sorted((tmp_path / "out" / "audio" / "s0").glob("*.flac"))
    converted = np.concatenate([soundfile.read(part, dtype="float32")[0] for part in parts])
    assert len(parts) >= 3
    np.testing.assert_allclose(converted, whole, rtol=0, atol=2**-15)
    assert "libmpg123" not in capfd.readouterr().err


def test_shards_merge_to_what_one_call_writes(tmp_path, monkeypatch, capsys):
    folder = write_recordings(tmp_path / "in")
    soundfile.write(folder / "s0" / "long.wav", speech_like(16000 * 7, 3), 16000)
    # One name but for the ending, at the two ends of the list: both shards must know.
    soundfile.write(folder / "s3" / "rec 0.flac", speech_like(16000, 4), 16000)
    words = ["manifest", str(folder), "--dev", "0.2", "--test", "0.2", "--max-seconds", "3", "--jobs", "1"]
    assert main([*words, "--out", str(tmp_path / "straight")]) == 0
    for number in (1, 2, 3):
        assert main([*words, "--out", str(tmp_path / "out"), "--shard", f"{number}/3"]) == 0
        assert not (tmp_path / "out" / "train.tsv").exists()

    def heard_again(*arguments):
        raise AssertionError("a recording was cut before, and is decoded again")

    monkeypatch.setattr("ccc_w2v.corpora.own.recordings.parts", heard_again)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "audio").rglob("*.flac")}
    assert main(["merge", str(tmp_path / "out")]) == 0
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "audio").rglob("*.flac")}
    for path in (tmp_path / "straight").glob("*.*"):
        expected = path.read_text().replace(str(tmp_path / "straight"), str(tmp_path / "out"))
        assert (tmp_path / "out" / path.name).read_text() == expected, path.name


def test_channels_are_averaged(tmp_path):
    folder = write_recordings(tmp_path / "in", text=False)
    left, right = speech_like(16000, 1), speech_like(16000, 2)
    soundfile.write(folder / "s0" / "stereo.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    prepare(folder, tmp_path / "out", ManifestOptions(dev=0.0, test=0.0))
    mono, _ = soundfile.read(tmp_path / "out" / "audio" / "s0" / "stereo.flac")
    np.testing.assert_allclose(mono, (left + right) / 2, atol=2**-15)


def test_table_with_parts_and_speakers(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    wave = speech_like(48000, 0)
    soundfile.write(folder / "talk.wav", wave, 16000, subtype="PCM_16")
    soundfile.write(folder / "other.wav", speech_like(16000, 1), 16000)
    (tmp_path / "t.tsv").write_text(
        "path\ttext\tspeaker\tsplit\tstart\tend\n"
        "talk.wav\tone\tanna\ttrain\t0.5\t1.5\ntalk\ttwo\tben\tdev\t1.5\t3\nother\tthree\tcara\ttest\t\t\n"
    )
    prepare(folder, tmp_path / "out", ManifestOptions(str(tmp_path / "t.tsv")))
    assert listed(tmp_path / "out", "train") == [("talk_0000050_0000150.flac", 16000, "ONE")]
    assert listed(tmp_path / "out", "dev") == [("talk_0000150_0000300.flac", 24000, "TWO")]
    assert [text for *_, text in listed(tmp_path / "out", "test")] == ["THREE"]
    cut, _ = soundfile.read(tmp_path / "out" / "audio" / "talk_0000050_0000150.flac")
    np.testing.assert_allclose(cut, wave[8000:24000], atol=2**-14)


def test_long_recordings_are_cut_and_without_times_lose_their_words(tmp_path):
    folder = write_recordings(tmp_path / "in")
    soundfile.write(folder / "s0" / "long.wav", speech_like(16000 * 7, 3), 16000)
    (folder / "s0" / "long.txt").write_text("many words")
    prepared = prepare(folder, tmp_path / "out", ManifestOptions(dev=0.2, test=0.2, longest_seconds=3.0))
    names = ("pretrain", "train", "dev", "test")
    lines = {name: [line for line in listed(tmp_path / "out", name) if "long" in line[0]] for name in names}
    assert sum(samples for _, samples, _ in lines["pretrain"]) in (0, 16000 * 7)
    assert all(samples <= 48000 for _, samples, _ in lines["pretrain"])
    assert not lines["train"] + lines["dev"] + lines["test"]
    assert any("have a transcript without times, as s0/long.wav" in note for note in prepared.notes)


def test_without_transcripts_for_pretraining_alone(tmp_path):
    out = tmp_path / "out"
    prepared = prepare(write_recordings(tmp_path / "in", text=False), out, ManifestOptions(dev=0.25))
    assert set(prepared.lists) == {"pretrain", "dev"}
    assert not list(out.glob("*.wrd")) + list(out.glob("dict.*"))
    assert len(listed(out, "pretrain")) + len(listed(out, "dev")) == 8


def test_a_stopped_call_continues_and_other_settings_are_refused(tmp_path):
    folder, out = write_recordings(tmp_path / "in"), tmp_path / "out"
    options = ManifestOptions(dev=0.25, test=0.25)
    prepare(folder, out, options)
    kept = next((out / "audio").rglob("*.flac"))
    before, content = kept.stat().st_mtime_ns, (out / "train.tsv").read_bytes()
    for name in ("train.tsv", "dict.ltr.txt"):
        (out / name).unlink()
    prepare(folder, out, options)
    assert kept.stat().st_mtime_ns == before
    assert (out / "train.tsv").read_bytes() == content
    with pytest.raises(InputError, match=r"made with other settings \(sample_rate\)"):
        prepare(folder, out, ManifestOptions(dev=0.25, test=0.25, sample_rate=8000))
    prepare(folder, out, ManifestOptions(dev=0.25, test=0.25, sample_rate=8000), overwrite=True)
    assert soundfile.info(kept).samplerate == 8000


def test_bad_recordings_are_named_or_left_out(tmp_path):
    folder, out = write_recordings(tmp_path / "in"), tmp_path / "out"
    (folder / "s0" / "broken.wav").write_bytes(b"RIFFnothing")
    soundfile.write(folder / "s1" / "silent.wav", np.zeros(16000), 16000)
    options = ManifestOptions(dev=0.25, test=0.25)
    with pytest.raises(InputError, match=r"broken\.wav: not audio .*; and 1 more; --leave-out-bad skips"):
        prepare(folder, out, options)
    prepared = prepare(folder, out, options, leave_out_bad=True)
    assert sum("left out: " in note for note in prepared.notes) == 2
    assert sum(size["utterances"] for name, size in prepared.lists.items() if name != "pretrain") == 8


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{none}", "--out", "{out}"], "none: no such folder"),
        (["{empty}", "--out", "{out}"], "empty: holds no audio"),
        (["{in}", "--out", "{out}", "--dev", "0.6", "--test", "0.5"], "--dev and --test are shares"),
        (["{in}", "--out", "{out}", "--transcripts", "{none}"], "none: no such table of transcripts"),
        (["{in}", "--out", "{out}", "--transcripts", "{table}"], "t.tsv:2: 'gone.wav' names no recording"),
        (["{in}", "--out", "{out}", "--speakers", "x(y)"], "--speakers 'x(y)' does not match it"),
        (["{in}/s0", "--out", "{out}"], "1 speakers for train, dev, test"),
    ],
)
def test_mistakes_are_one_line(arguments, expected, tmp_path, capsys):
    write_recordings(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.tsv").write_text("path\ttext\ngone.wav\thello\n")
    names = {name: str(tmp_path / name) for name in ("none", "empty", "in", "out")}
    words = [word.format(**names, table=tmp_path / "t.tsv") for word in arguments]
    assert main(["manifest", *words]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert expected in error[0]


def test_speakers_by_rule():
    assert speaker_of("anna/day1/a.wav", "folder") == "anna"
    assert speaker_of("a.wav", "recording") == "a.wav"
    assert speaker_of("x/anna_001.wav", r"/(\w+)_\d") == "anna"
