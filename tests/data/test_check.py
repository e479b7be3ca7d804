import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.data.check import find_bad_audio, write_without
from ccc_w2v.data.manifest import read_labels, read_manifest
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
    assert write_without(manifest, find_bad_audio(manifest, RATE), tmp_path / "good.tsv") == 3
    good = read_manifest(tmp_path / "good.tsv")
    assert [entry.path for entry in good.entries] == ["train0.wav", "train2.wav", "train4.wav"]
    assert read_labels(good, ".wrd") == ["word a", "word c", "word e"]
    assert find_bad_audio(good, RATE) == {}
    with pytest.raises(InputError, match="no recording is usable"):
        write_without(manifest, dict.fromkeys(manifest.entries, "bad"), tmp_path / "none.tsv")
    assert not (tmp_path / "none.tsv").exists()


def run(*arguments):
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True)


def test_the_tool_exits_with_2_and_a_line_for_each(corpus, tmp_path):
    found = run(corpus, "--out", tmp_path / "good.tsv")
    errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert found.returncode == 2 and len(errors) == 3
    assert "3 of 6 utterances are good" in found.stdout
    again = run(tmp_path / "good.tsv")
    assert again.returncode == 0 and "3 of 3 utterances are good" in again.stdout
    corpus.with_suffix(".wrd").write_text("one\n")
    unfit = run(corpus)
    assert unfit.returncode == 2 and "1 lines for 6 utterances" in unfit.stderr
