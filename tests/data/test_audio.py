import zipfile

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.data.audio import audio_samples, open_parts, read_audio
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, speech_like


@pytest.fixture
def write(tmp_path):
    def write(name, wave=None, rate=RATE, **format):
        path = tmp_path / name
        soundfile.write(path, speech_like(8000, 0) if wave is None else wave, rate, **format)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.wav", {}),
        ("a.flac", {}),
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("mp3_inside.wav", {"format": "MP3"}),
        ("a.sph", {"format": "NIST", "subtype": "PCM_16"}),
        ("a.sph", {"format": "NIST", "subtype": "ULAW"}),
    ],
)
def test_reads_what_soundfile_reads(write, name, format):
    path = write(name, **format)
    expected, _ = soundfile.read(path, dtype="float32")
    # libsndfile's MP3 decoder rounds in another way after a seek to where it is, which soundfile.read does.
    apart = 1e-6 if "mp3" in name else 0
    assert np.allclose(read_audio(path, RATE), expected, rtol=0, atol=apart)
    assert audio_samples(path, RATE) == 8000
    assert np.allclose(read_audio(path, RATE, start=100, frames=50), expected[100:150], rtol=0, atol=apart)


def test_a_crop_of_mp3_is_that_of_the_whole(write, capfd):
    path = write("a.wav", speech_like(10 * RATE, 0), format="MP3")
    whole = read_audio(path, RATE)
    with open_parts(path, RATE, where="", declared_samples=len(whole)) as read:
        for start in (53297, 100001, 7, 120000):
            assert torch.equal(read_audio(path, RATE, start=start, frames=16000), whole[start : start + 16000])
            assert np.allclose(read(start, 16000), whole[start : start + 16000], rtol=0, atol=1e-6)
    assert capfd.readouterr().err == ""


def test_reads_a_slice_of_an_uncompressed_zip(write, tmp_path):
    path = write("a.flac")
    packed = tmp_path / "pack.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("first", b"other bytes")
        archive.write(path, "a.flac")
        info = archive.getinfo("a.flac")
    offset = info.header_offset + 30 + len(info.filename)
    wave = read_audio(f"{packed}:{offset}:{info.file_size}", RATE)
    assert torch.equal(wave, read_audio(path, RATE))


def bad_wave(value):
    wave = speech_like(8000, 0)
    wave[4000] = value
    return wave


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ({"rate": 8000}, {}, "sample rate 8000 Hz, expected 16000 Hz"),
        ({"wave": np.zeros((100, 2), np.float32)}, {}, "2 channels, expected 1"),
        ({"wave": np.zeros(8000, np.float32)}, {}, "digital silence"),
        ({"wave": bad_wave(np.nan), "subtype": "FLOAT"}, {}, "NaN or infinite"),
        ({"wave": bad_wave(np.inf), "subtype": "FLOAT"}, {}, "NaN or infinite"),
        ({}, {"declared_samples": 9000}, "8000 samples, the manifest declares 9000"),
        ({}, {"declared_samples": 7000}, "8000 samples, the manifest declares 7000"),
        ({}, {"min_samples": 8001}, "8000 samples, the minimum is 8001"),
    ],
)
def test_bad_audio_is_one_line_with_file_and_manifest_line(write, arguments, options, message):
    path = write("a.wav", **arguments)
    with pytest.raises(InputError, match=message) as caught:
        read_audio(path, RATE, where="train.tsv:7", **options)
    assert str(caught.value).startswith(f"train.tsv:7: {path}: ")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_reported(write):
    for name in ("a.flac", "a.wav"):
        path = write(name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match="truncated|damaged|declares"):
            read_audio(path, RATE, declared_samples=8000)


def test_missing_and_foreign_files_are_reported(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_audio(tmp_path / "none.wav", RATE)
    (tmp_path / "text.wav").write_text("this is no audio")
    with pytest.raises(InputError, match="not audio that libsndfile reads"):
        read_audio(tmp_path / "text.wav", RATE)
