"""Packed corpora: the same samples through this package and through fairseq, damage found, nothing half-written."""

import io
import zipfile

import numpy as np
import pytest
import soundfile
import torch
from fairseq.data.audio.audio_utils import is_sf_audio_data, parse_path, read_from_stored_zip

from ccc_w2v.augment.pipeline import load_pipeline
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.packing import pack, write_zip, zip_slices
from ccc_w2v.dataset.two_view import TwoViewDataset
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, speech_like, write_corpus, write_labels
from tests.run_tool import run_tool


@pytest.fixture
def corpus(tmp_path):
    path = write_corpus(tmp_path / "raw", [4000, 5000, 6000, 7000])
    soundfile.write(tmp_path / "raw/audio/train4.flac", speech_like(8000, 9), RATE)
    entries = [(entry.path, entry.samples) for entry in read_manifest(path).entries]
    write_manifest(path, tmp_path / "raw/audio", [*entries, ("train4.flac", 8000)])
    write_labels(path, ["ONE", "TWO", "THREE", "FOUR", "FIVE"])
    path.with_suffix(".spm9").write_text("\u2581ONE\n" * 5, encoding="utf-8")
    (path.parent / "dict.spm9.txt").write_text("\u2581ONE 1\n", encoding="utf-8")
    path.with_suffix(".json").write_text("{}")
    return path


def test_slices_hold_the_same_samples_here_and_in_fairseq(corpus, tmp_path):
    raw = read_manifest(corpus)
    zips = pack(raw, tmp_path / "packed/train.tsv", RATE, max_bytes=25_000)
    assert [path.name for path in zips] == ["train_000.zip", "train_001.zip", "train_002.zip"]
    packed = read_manifest(tmp_path / "packed/train.tsv")
    assert read_labels(packed, ".wrd") == ["ONE", "TWO", "THREE", "FOUR", "FIVE"]
    assert read_labels(packed, ".spm9") == ["\u2581ONE"] * 5
    beside = {path.name for path in (tmp_path / "packed").iterdir() if path.suffix != ".zip"}
    assert beside == {
        "train.tsv",
        "train.wrd",
        "train.ltr",
        "train.spm9",
        "dict.ltr.txt",
        "dict.spm9.txt",
        "train.tsv.settings.json",
    }
    for before, after in zip(raw.entries, packed.entries, strict=True):
        expected = read_audio(raw.audio_path(before), RATE)
        wave = read_audio(packed.audio_path(after), RATE, declared_samples=after.samples)
        assert torch.equal(wave, expected)
        content = read_from_stored_zip(*_zip_and_slice(packed.audio_path(after)))
        assert is_sf_audio_data(content)
        np.testing.assert_array_equal(soundfile.read(io.BytesIO(content), dtype="float32")[0], expected)
        assert torch.equal(read_audio(packed.audio_path(after), RATE, start=50, frames=9), expected[50:59])
    with zipfile.ZipFile(zips[0]) as file:
        assert file.testzip() is None
        assert file.namelist() == ["train0.wav", "train1.wav"]
    assert sorted(path.name for path in (tmp_path / "packed").iterdir() if path.name.startswith(".")) == []


def _zip_and_slice(path):
    """Return what fairseq's dataset takes a path apart into."""
    file, slice_ = parse_path(path)
    return file, *slice_


def test_a_corrupt_recording_in_a_zip_is_named_and_follows_the_policy(corpus, tmp_path):
    zips = pack(read_manifest(corpus), tmp_path / "train.tsv", RATE)
    packed = read_manifest(tmp_path / "train.tsv")
    offset = int(packed.entries[1].path.split(":")[1])
    content = bytearray(zips[0].read_bytes())
    content[offset : offset + 40] = bytes(40)
    zips[0].write_bytes(content)
    with pytest.raises(InputError, match=rf"train.tsv:3: .*train_000.zip:{offset}:.*not audio"):
        read_audio(packed.audio_path(packed.entries[1]), RATE, where=packed.where(packed.entries[1]))
    dataset = TwoViewDataset(packed, load_pipeline("none", RATE), RATE, seed=1, on_bad_audio="skip")
    assert dataset.collater([dataset[index] for index in range(5)])["bad_audio"] == 1


def test_what_cannot_be_packed_is_named_and_nothing_is_left(corpus, tmp_path):
    (tmp_path / "raw/audio/train3.wav").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"train.tsv:5: .*train3.wav: not audio"):
        pack(read_manifest(corpus), tmp_path / "packed/train.tsv", RATE, max_bytes=25_000)
    assert list((tmp_path / "packed").iterdir()) == []
    assert run_tool("pack", corpus, out=corpus) == 2
    assert run_tool("pack", corpus, out=tmp_path / "x.tsv", sample_rate=8000) == 2


def test_a_packed_corpus_is_not_packed_again(corpus, tmp_path):
    pack(read_manifest(corpus), tmp_path / "train.tsv", RATE)
    with pytest.raises(InputError, match="in an archive or elsewhere already"):
        pack(read_manifest(tmp_path / "train.tsv"), tmp_path / "again.tsv", RATE)


def test_a_zip_of_bytes_is_read_here_and_by_fairseq_and_zip_programs(tmp_path):
    files = {"a/b.flac": b"12345", "ü.bin": bytes(range(256))}
    write_zip(tmp_path / "some.zip", files.items())
    slices = zip_slices(tmp_path / "some.zip")
    assert list(slices) == list(files)
    for name, where in slices.items():
        path, slice_ptr = parse_path(f"{tmp_path}/{where}")
        assert read_from_stored_zip(path, *slice_ptr) == files[name]
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        assert archive.testzip() is None
    first = (tmp_path / "some.zip").read_bytes()
    write_zip(tmp_path / "some.zip", files.items())
    assert (tmp_path / "some.zip").read_bytes() == first


def test_a_compressed_zip_and_no_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "small.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * 1000)
    with pytest.raises(InputError, match="a is compressed"):
        zip_slices(tmp_path / "small.zip")
    (tmp_path / "no.zip").write_bytes(b"no")
    with pytest.raises(InputError, match="is no zip"):
        zip_slices(tmp_path / "no.zip")


def test_a_zip_that_fails_half_way_is_not_there(tmp_path):
    def files():
        yield "a", b"1"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_zip(tmp_path / "half.zip", files())
    assert not list(tmp_path.iterdir())
