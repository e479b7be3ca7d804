import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.cli.main import main
from ccc_w2v.data.check import check_manifest, clipped_share, find_bad_audio, write_without
from ccc_w2v.data.labels import read_labels
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, speech_like, write_corpus, write_labels

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_manifest.py"


@pytest.fixture
def corpus(tmp_path):
    """Six recordings: the second silent, the fourth with a NaN, the sixth gone."""
    path = write_corpus(tmp_path, [8000] * 6)
    write_labels(path, [f"word {letter}" for letter in "abcdef"])
    soundfile.write(tmp_path / "audio" / "train1.wav", np.zeros(8000, np.float32), RATE)
    wave = speech_like(8000, 0)
    wave[-1] = np.nan
    soundfile.write(tmp_path / "audio" / "train3.wav", wave, RATE, subtype="FLOAT")
    (tmp_path / "audio" / "train5.wav").unlink()
    return path


@pytest.mark.parametrize("workers", [1, 3])
def test_every_bad_line_is_named(corpus, workers):
    bad = find_bad_audio(read_manifest(corpus), RATE, workers=workers)
    assert [entry.line for entry in bad] == [3, 5, 7]
    for message, what in zip(bad.values(), ("digital silence", "NaN", "no such file"), strict=True):
        assert what in message
    assert len(find_bad_audio(read_manifest(corpus), RATE, min_samples=8001)) == 6


def test_the_good_lines_and_their_labels_are_kept(corpus, tmp_path):
    manifest = read_manifest(corpus)
    corpus.with_suffix(".spm9").write_text("".join(f"unit {number}\n" for number in range(len(manifest))))
    (corpus.parent / "dict.spm9.txt").write_text("unit 1\n")
    assert write_without(manifest, find_bad_audio(manifest, RATE), tmp_path / "good.tsv") == 3
    good = read_manifest(tmp_path / "good.tsv")
    assert [entry.path for entry in good.entries] == ["train0.wav", "train2.wav", "train4.wav"]
    assert read_labels(good, ".wrd") == ["word a", "word c", "word e"]
    assert read_labels(good, ".spm9") == ["unit 0", "unit 2", "unit 4"]
    assert find_bad_audio(good, RATE) == {}
    with pytest.raises(InputError, match="no recording is usable"):
        write_without(manifest, dict.fromkeys(manifest.entries, "bad"), tmp_path / "none.tsv")
    assert not (tmp_path / "none.tsv").exists()


def test_clipped_recordings_and_copies_are_found(corpus, tmp_path):
    audio = tmp_path / "audio"
    wave = speech_like(8000, 2)
    soundfile.write(audio / "train2.wav", np.clip(40 * wave, -1, 1), RATE, subtype="PCM_16")
    # The same samples in another format: the bytes differ, the content does not.
    content, _ = soundfile.read(audio / "train0.wav", dtype="int16")
    soundfile.write(audio / "copy.flac", content, RATE, subtype="PCM_16")
    manifest = read_manifest(corpus)
    write_manifest(corpus, audio, [*((entry.path, 8000) for entry in manifest.entries), ("copy.flac", 8000)])
    corpus.with_suffix(".wrd").write_text("word\n" * 7)
    corpus.with_suffix(".ltr").write_text("w o r d |\n" * 7)
    findings = check_manifest(read_manifest(corpus), RATE, workers=2)
    assert [(bad.entry.line, bad.kind) for bad in findings] == [
        *((3, "unusable"), (4, "clipped"), (5, "unusable"), (7, "unusable"), (8, "duplicate"))
    ]
    assert "the same samples as line 2 (train0.wav)" in findings[-1].message
    assert [bad.kind for bad in check_manifest(read_manifest(corpus), RATE, max_clipped=1.0)].count("clipped") == 0
    finished = run(corpus, "--out", tmp_path / "good.tsv")
    assert finished.returncode == 2
    assert finished.stderr.count("warning: ") == 2
    assert [entry.path for entry in read_manifest(tmp_path / "good.tsv").entries] == ["train0.wav", "train4.wav"]
    report = json.loads((tmp_path / "good.report.json").read_text())
    assert report["counts"] == {"unusable": 3, "clipped": 1, "duplicate": 1}
    assert report["good"] == 2
    assert [bad["line"] for bad in report["findings"]] == [3, 4, 5, 7, 8]
    # Warnings alone are no failure.
    shutil.copy(audio / "train0.wav", audio / "train4.wav")
    assert run(tmp_path / "good.tsv").returncode == 0


def test_a_folder_that_is_not_there_is_said_before_anything_is_read(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ccc_w2v.data.check.read_audio", lambda *_, **__: pytest.fail("read for nothing"))
    assert main(["check", str(corpus), "--out", str(tmp_path / "nowhere/good.tsv")]) == 2
    assert "nowhere/good.tsv: its folder does not exist" in capsys.readouterr().err
    assert main(["check", str(corpus), "--report", str(tmp_path / "nowhere/report.json")]) == 2
    assert "nowhere/report.json: its folder does not exist" in capsys.readouterr().err


def test_clipping_is_a_run_at_full_scale():
    wave = np.zeros(100, np.float32)
    wave[[10, 20, 21]] = 1.0
    assert clipped_share(wave) == 0.0
    wave[40:45] = -1.0
    assert clipped_share(wave) == pytest.approx(0.05)


def run(*arguments):
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True)


def test_the_tool_exits_with_2_and_a_line_for_each(corpus, tmp_path):
    finished = run(corpus, "--out", tmp_path / "good.tsv")
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert finished.returncode == 2
    assert len(errors) == 3
    assert "3 of 6 utterances are good" in finished.stdout
    again = run(tmp_path / "good.tsv")
    assert again.returncode == 0
    assert "3 of 3 utterances are good" in again.stdout
    corpus.with_suffix(".wrd").write_text("one\n")
    unfit = run(corpus)
    assert unfit.returncode == 2
    assert "1 lines for 6 utterances" in unfit.stderr
