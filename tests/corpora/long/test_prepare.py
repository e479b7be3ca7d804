"""Long recordings to lists of segments: any format, stopped and continued, in shards, and what is wrong in one line."""

from contextlib import nullcontext

import numpy as np
import pytest
import soundfile

from ccc_w2v.cli.main import main
from ccc_w2v.corpora.long import prepare as long_prepare
from ccc_w2v.corpora.long.prepare import SegmentOptions, merge, segment_folder
from ccc_w2v.corpora.long.speech import detector_of, listen
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.sharding import Shard
from tests.fake_corpora import RATE, speech_like

ENERGY = SegmentOptions(detector="energy", dev=0.3)
TALKS = [4.0, 9.0, 45.0]  # seconds of speech, with 3 s of near silence behind each


def talk(seed, rate=RATE):
    quiet = 1e-4 * np.random.default_rng(seed).standard_normal(3 * rate)
    voice = speech_like(round(sum(TALKS) * rate), seed) + 0.05
    parts, position = [quiet], 0
    for seconds in TALKS:
        parts += [voice[position : position + round(seconds * rate)], quiet]
        position += round(seconds * rate)
    return np.concatenate(parts).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    (folder / "show").mkdir()
    for number, suffix in enumerate(("flac", "wav", "ogg")):
        soundfile.write(folder / "show" / f"{number}.{suffix}", talk(number), RATE)
    return folder


def content(out):
    return {path.name: path.read_text() for path in sorted(out.glob("*.tsv"))}


def test_segments_are_the_speech_and_stay_where_they_are(folder, tmp_path):
    segmented = segment_folder(folder, tmp_path / "out", ENERGY)
    assert segmented.lists["pretrain"]["recordings"] == 2
    assert segmented.lists["dev"]["recordings"] == 1
    total = sum(size["hours"] for size in segmented.lists.values())
    assert total == pytest.approx(3 * sum(TALKS) / 3600, rel=0.03)
    assert not list((tmp_path / "out").rglob("*.flac"))
    for name in ("pretrain", "dev"):
        manifest = read_manifest(tmp_path / "out" / f"{name}.tsv")
        assert manifest.root == str(folder.resolve())
        for entry in manifest.entries:
            wave = read_audio(manifest.audio_path(entry), RATE, declared_samples=entry.samples).numpy()
            file, start, samples = entry.path.rsplit(":", 2)
            whole = soundfile.read(folder / file, dtype="float32")[0]
            assert np.array_equal(wave, whole[int(start) : int(start) + int(samples)])
            assert np.abs(wave).max() > 0.01
            assert 1 <= entry.samples / RATE <= 30


def test_a_stopped_call_continues_and_other_settings_are_refused(folder, tmp_path, monkeypatch):
    expected = segment_folder(folder, tmp_path / "straight", ENERGY)
    plain, heard = listen, []

    def stops(path, *arguments):
        heard.append(path.name)
        if len(heard) == 2:
            raise KeyboardInterrupt
        return plain(path, *arguments)

    monkeypatch.setattr(long_prepare, "listen", stops)
    with pytest.raises(KeyboardInterrupt):
        segment_folder(folder, tmp_path / "out", ENERGY)
    journal = tmp_path / "out" / "segments.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"name": "ha')  # a kill leaves half a line
    heard.clear()
    monkeypatch.setattr(long_prepare, "listen", lambda path, *rest: heard.append(path.name) or plain(path, *rest))
    assert segment_folder(folder, tmp_path / "out", ENERGY) == expected
    assert heard == ["1.wav", "2.ogg"]
    assert content(tmp_path / "out") == content(tmp_path / "straight")
    with pytest.raises(InputError, match=r"made with other settings \(dev"):
        segment_folder(folder, tmp_path / "out", SegmentOptions(detector="energy", dev=0.1))


def test_shards_merge_to_what_one_call_writes(folder, tmp_path):
    expected = segment_folder(folder, tmp_path / "straight", ENERGY)
    out = tmp_path / "out"
    for number in (2, 1):
        assert segment_folder(folder, out, ENERGY, shard=Shard(number, 3)) is None
    with pytest.raises(InputError, match=r"1 of 3 shards are not finished: 3; run them"):
        merge(out)
    assert not out.exists()
    segment_folder(folder, out, ENERGY, shard=Shard(3, 3))
    assert merge(out) == expected
    assert content(out) == content(tmp_path / "straight")
    # The merged folder is what the command itself has written: it has nothing left to do.
    assert segment_folder(folder, out, ENERGY) == expected


def test_shards_of_other_settings_do_not_belong_together(folder, tmp_path):
    out = tmp_path / "out"
    segment_folder(folder, out, ENERGY, shard=Shard(1, 2))
    segment_folder(folder, out, SegmentOptions(detector="energy", dev=0.2), shard=Shard(2, 2))
    with pytest.raises(InputError, match="2-of-2: does not belong to 1-of-2: it differs in dev"):
        merge(out)


def test_recordings_of_other_formats_are_noted(tmp_path):
    (tmp_path / "in").mkdir()
    stereo = np.stack([talk(0, 44_100)] * 2, axis=1)
    soundfile.write(tmp_path / "in" / "a.mp3", stereo, 44_100)
    soundfile.write(tmp_path / "in" / "b.mp3", talk(1), RATE)
    notes = segment_folder(tmp_path / "in", tmp_path / "out", ENERGY).notes
    assert any(
        "1 recordings are not mono at 16000 Hz, as a.mp3: pre-train with +task.resample=true" in n for n in notes
    )
    assert any("1 recordings are MP3 below 32000 Hz, as b.mp3" in note for note in notes)


def test_bad_recordings_are_named_or_left_out(folder, tmp_path):
    (tmp_path / "in").mkdir()
    for number in (0, 1):
        soundfile.write(tmp_path / "in" / f"{number}.flac", talk(number), RATE)
    (tmp_path / "in" / "bad.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match="bad.wav: not audio .*; --leave-out-bad skips them"):
        segment_folder(tmp_path / "in", tmp_path / "out", ENERGY)
    assert not (tmp_path / "out" / "pretrain.tsv").exists()
    segmented = segment_folder(tmp_path / "in", tmp_path / "left", ENERGY, leave_out_bad=True)
    assert any("left out: " in note and "bad.wav" in note for note in segmented.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-seconds", "0.5"], "--min-seconds must be above 0 and below --max-seconds"),
        (["--pause", "3"], "--pause must be above 0 and not above --silence"),
        (["--dev", "1"], "--dev is a share"),
        (["--shard", "3/2"], "expected i/n with i from 1 to n"),
        (["--shard", "1/9"], "there are 3 items, so at most as many shards"),
        (["--min-seconds", "29"], "no speech of 29 s or more"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) if "3/2" in arguments else nullcontext():
        assert main(["segment", str(folder), "--out", str(tmp_path / "out"), "--detector", "energy", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_one_recording_cannot_be_held_out_from_itself(tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.flac", talk(0), RATE)
    with pytest.raises(InputError, match="set --dev 0 and name another validation set"):
        segment_folder(tmp_path / "in", tmp_path / "out", ENERGY)
    assert "dev" not in segment_folder(tmp_path / "in", tmp_path / "o", SegmentOptions(detector="energy", dev=0)).lists


def test_the_detector_is_sileros_where_it_is_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "silero_vad" else name)
    assert detector_of("auto") == detector_of("energy") == "energy"
    with pytest.raises(InputError, match=r"silero_vad is not installed; pip install 'ccc-w2v\[segment\]'"):
        detector_of("silero")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert detector_of("auto") == "silero"


def test_silero_hears_blocks_as_it_hears_the_whole():
    pytest.importorskip("silero_vad")
    pytest.importorskip("onnxruntime")
    from ccc_w2v.corpora.long.speech import _Silero, _silero

    wave = speech_like(150 * RATE, 3)
    wave[60 * RATE : 75 * RATE] *= 0.001
    ear = _Silero()
    for start in range(0, len(wave), 60 * RATE):
        ear.hear(wave[start : start + 60 * RATE], RATE)
    whole = _silero().audio_forward(wave)
    assert whole.max() > 0.5
    np.testing.assert_allclose(np.concatenate(ear.probabilities), whole, atol=1e-5)
