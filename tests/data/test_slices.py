"""Segments of long recordings: the samples of the same slice of the whole in any format; errors in one line."""

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.data.audio import audio_rate, audio_samples, open_parts, read_audio
from ccc_w2v.data.check import check_manifest
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.packing import pack
from ccc_w2v.data.rates import sample_rates
from ccc_w2v.data.slices import Slice, copy_path, segment_of, slice_of
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.dataset.conditions import write_conditions
from ccc_w2v.errors import InputError
from ccc_w2v.training.checks import check_whole_files
from tests.fake_corpora import RATE, speech_like

LOSSLESS = ("flac", "wav", "aiff", "sph")
KINDS = {
    "sph": {"format": "NIST", "subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
}


@pytest.fixture(scope="module")
def long_wave():
    return speech_like(60 * RATE, 0)


@pytest.mark.parametrize("kind", ["flac", "wav", "aiff", "sph", "ogg", "opus", "mp3"])
def test_a_segment_is_the_slice_of_the_whole_decode(tmp_path, long_wave, kind):
    path = tmp_path / f"talk.{kind}"
    soundfile.write(path, long_wave, RATE, **KINDS.get(kind, {}))
    whole = soundfile.read(path, dtype="float32")[0]
    for start, samples in ((0, 16000), (123_457, 31_999), (640_001, 7), (len(whole) - 16000, 16000)):
        name = f"{path}:{start}:{samples}"
        wave = read_audio(name, RATE, declared_samples=samples).numpy()
        apart = 0 if kind in LOSSLESS else 1e-6
        np.testing.assert_allclose(wave, whole[start : start + samples], rtol=0, atol=apart)
        assert (audio_samples(name, RATE), audio_rate(name)) == (samples, RATE)
    name = f"{path}:100000:50000"
    with open_parts(name, RATE, where="", declared_samples=50_000) as read:
        np.testing.assert_allclose(read(49_000, 1000), whole[149_000:150_000], rtol=0, atol=apart)
    inner = read_audio(name, RATE, start=200, frames=300).numpy()
    np.testing.assert_allclose(inner, whole[100_200:100_500], rtol=0, atol=apart)


@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_what_lies_before_a_segment_is_not_decoded(tmp_path, long_wave, kind, monkeypatch):
    path = tmp_path / f"talk.{kind}"
    soundfile.write(path, long_wave, RATE)
    asked = []
    plain = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, frames=-1, **kwargs: asked.append(frames) or plain(self, frames, **kwargs),
    )
    read_audio(f"{path}:800000:16000", RATE)
    assert asked == [16000]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_jump_into_mp3_of_44_khz_stereo_is_exact_and_silent(tmp_path, mode, capfd):
    rate = 44_100
    waves = np.stack([speech_like(30 * rate, seed) for seed in (1, 2)], axis=1)
    path = tmp_path / "podcast.mp3"
    soundfile.write(path, waves, rate, bitrate_mode=mode, compression_level=0.8)
    whole = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    for start in np.random.default_rng(0).integers(rate, 28 * rate, 20):
        wave = read_audio(f"{path}:{start}:{rate}", rate, resample=True).numpy()
        np.testing.assert_allclose(wave, whole[start : start + rate], rtol=0, atol=1e-6)
    assert capfd.readouterr().err == ""


def test_other_rates_and_channels_are_refused_or_converted_as_they_are_read(tmp_path):
    waves = np.stack([speech_like(48_000, seed) for seed in (1, 2)], axis=1)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, waves, RATE, subtype="FLOAT")
    with pytest.raises(InputError, match="2 channels, expected 1; .*task.resample=true"):
        read_audio(f"{path}:10:1000", RATE)
    wave = read_audio(f"{path}:10:1000", RATE, resample=True)
    torch.testing.assert_close(wave, torch.from_numpy(waves[10:1010].mean(axis=1)))
    assert len(read_audio(f"{path}:10:1000", 8000, resample=True)) == 500


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("talk.flac:950000:16000", "the segment ends after the recording's 960000 samples"),
        ("gone.flac:0:100", "gone.flac:0:100: no such file"),
        ("talk.flac:0:99", "99 samples, the minimum is 100"),
        ("talk.flac:0:1999", "1999 samples, the manifest declares 2000"),
        ("talk.flac:9999999999999999999:1999", "no such file"),
    ],
)
def test_a_segment_that_cannot_be_read_is_one_line(tmp_path, long_wave, name, message):
    soundfile.write(tmp_path / "talk.flac", long_wave, RATE)
    declared = 2000 if "1999" in name and "flac:0" in name else None
    with pytest.raises(InputError, match=message) as caught:
        read_audio(tmp_path / name, RATE, where="train.tsv:3", declared_samples=declared, min_samples=100)
    assert str(caught.value).startswith("train.tsv:3: ")


def test_names_of_parts():
    assert segment_of("a/talk.mp3:5:70") == Slice("a/talk.mp3", 5, 70)
    assert str(Slice("a/talk.mp3", 5, 70)) == "a/talk.mp3:5:70"
    assert slice_of("pack_000.zip:5:70") == Slice("pack_000.zip", 5, 70)
    assert segment_of("pack_000.zip:5:70") is None
    for whole in ("a/talk.mp3", "a:b/12:30:45", "talk.mp3:5", "talk.mp3:x:70", "rec 12:30:45.wav", "t.mp3:-1:70"):
        assert slice_of(whole) is None
    assert str(copy_path("a/talk.mp3:5:70")) == "a/talk/5-70.flac"
    assert str(copy_path("a/b.wav")) == "a/b.flac"
    assert str(copy_path("pack_000.zip:5:70")) == "pack_000/5-70.flac"


@pytest.fixture
def listed(tmp_path, long_wave):
    soundfile.write(tmp_path / "talk.flac", long_wave, RATE)
    segments = [Slice("talk.flac", 0, 20_000), Slice("talk.flac", 50_000, 16_000), Slice("talk.flac", 0, 20_000)]
    write_manifest(tmp_path / "train.tsv", tmp_path, [(str(segment), segment.length) for segment in segments])
    return tmp_path / "train.tsv"


def test_check_reads_segments_and_names_copies(listed):
    findings = check_manifest(read_manifest(listed), RATE)
    assert [(finding.entry.line, finding.kind) for finding in findings] == [(4, "duplicate")]


def test_a_header_is_read_once_for_all_segments_of_a_recording(listed, monkeypatch):
    opened = []
    plain = audio_rate
    monkeypatch.setattr(
        "ccc_w2v.data.rates.audio_rate", lambda path, **where: opened.append(path) or plain(path, **where)
    )
    monkeypatch.setattr("ccc_w2v.data.rates.THREADS", 1)
    assert sample_rates(read_manifest(listed)).tolist() == [RATE] * 3
    assert len(opened) == 1


def test_segments_have_ids_of_their_own_and_so_have_copies_of_them(listed, tmp_path):
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join(lines[:3]) + "\n")
    assert utterance_ids(read_manifest(listed)) == ["talk-0-20000", "talk-50000-16000"]
    preset = tmp_path / "quiet.yaml"
    preset.write_text("transforms: []\n")
    written = write_conditions(listed, [preset], tmp_path / "conditions")["quiet"]
    copies = read_manifest(written)
    assert utterance_ids(copies) == ["talk-0-20000", "talk-50000-16000"]
    assert [soundfile.info(copies.audio_path(entry)).frames for entry in copies.entries] == [20_000, 16_000]


def test_pack_and_fairseqs_own_tasks_refuse_segments_in_one_sentence(listed, tmp_path):
    with pytest.raises(InputError, match=r"train.tsv:2: .*talk.flac:0:20000: is a segment of a long recording"):
        pack(read_manifest(listed), tmp_path / "packed.tsv", RATE)
    assert not (tmp_path / "packed.tsv").exists()
    with pytest.raises(InputError, match=r"train.tsv:2: .*ccc-w2v manifest --transcripts"):
        check_whole_files(read_manifest(listed))
