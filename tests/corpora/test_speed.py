import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.cli.main import main
from ccc_w2v.corpora import speed
from ccc_w2v.corpora.speed import perturb_speed
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.packing import pack
from ccc_w2v.errors import InputError
from tests.fake_corpora import RATE, write_corpus, write_labels

TOOL = Path(__file__).parents[2] / "tools" / "perturb_speed.py"


@pytest.fixture
def manifest(tmp_path):
    path = write_corpus(tmp_path, [16000, 20000])
    write_labels(path, ["ONE TWO", "THREE"])
    return path


def test_every_copy_has_its_length_and_its_labels(manifest, tmp_path):
    assert perturb_speed(manifest, (0.9, 1.0, 1.1), tmp_path / "more.tsv") == 6
    made = read_manifest(tmp_path / "more.tsv")
    assert [entry.samples for entry in made.entries] == pytest.approx(
        [16000 / 0.9, 20000 / 0.9, 16000, 20000, 16000 / 1.1, 20000 / 1.1], abs=2
    )
    assert [soundfile.info(made.audio_path(entry)).frames for entry in made.entries] == [
        entry.samples for entry in made.entries
    ]
    assert (tmp_path / "more.wrd").read_text().splitlines() == ["ONE TWO", "THREE"] * 3
    assert (tmp_path / "more.ltr").read_text() == (tmp_path / "train.ltr").read_text() * 3


def test_tempo_and_pitch_change_together(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "tone.wav", tone, RATE, subtype="PCM_16")
    write_manifest(tmp_path / "tone.tsv", tmp_path, [("tone.wav", RATE)])
    perturb_speed(tmp_path / "tone.tsv", (1.25,), tmp_path / "fast.tsv")
    made = read_manifest(tmp_path / "fast.tsv")
    wave, _ = soundfile.read(made.audio_path(made.entries[0]))
    expected = 0.5 * np.sin(2 * np.pi * 1250 * np.arange(len(wave)) / RATE)
    assert len(wave) == 12800
    assert np.abs(wave - expected)[200:-200].max() < 5e-3


def test_a_second_call_writes_no_audio_again(manifest, tmp_path):
    perturb_speed(manifest, (0.9,), tmp_path / "more.tsv")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "more").rglob("*.flac")}
    (tmp_path / "more.tsv").unlink()
    assert perturb_speed(manifest, (0.9,), tmp_path / "more.tsv") == 2
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "more").rglob("*.flac")}


def test_shares_write_the_copies_and_the_merge_the_list(manifest, tmp_path, monkeypatch, capsys):
    words = ["speed", str(manifest), "--factors", "0.9,1", "--out"]
    assert main([*words, str(tmp_path / "straight.tsv")]) == 0
    out = tmp_path / "more.tsv"
    write, written = speed._write_copy, []
    monkeypatch.setattr(speed, "_write_copy", lambda *rest: written.append(rest[-1]) or write(*rest))
    assert main([*words, str(out), "--shard", "2/2"]) == 0
    assert [path.name for path in written] == ["train1.flac"]
    capsys.readouterr()
    assert main(["merge", str(out)]) == 2
    assert "1 of 2 shards are not finished: 1" in capsys.readouterr().err
    assert main([*words, str(out), "--shard", "1/2"]) == 0
    assert not out.exists()
    assert main(["merge", str(out)]) == 0
    assert [path.name for path in written] == ["train1.flac", "train0.flac"]
    for kind in (".tsv", ".wrd", ".ltr"):
        expected = (tmp_path / "straight.tsv").with_suffix(kind).read_text()
        assert out.with_suffix(kind).read_text() == expected.replace("straight/", "more/"), kind
    for path in (tmp_path / "straight").rglob("*.flac"):
        assert (tmp_path / "more" / path.relative_to(tmp_path / "straight")).read_bytes() == path.read_bytes()
    assert main(["speed", str(manifest), "--factors", "0.8", "--out", str(out), "--shard", "1/2"]) == 2
    assert "made with other settings (factors)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("factors", "out", "message"),
    [
        ((3.0,), "more", "0.5 to 2"),
        ((1.0, 1.0), "more", "each once"),
        ((), "more", "each once"),
        ((1.1,), "train", "is what this command reads"),
    ],
)
def test_mistakes_are_refused(manifest, tmp_path, factors, out, message):
    with pytest.raises(InputError, match=message):
        perturb_speed(manifest, factors, tmp_path / f"{out}.tsv")


def test_labels_that_do_not_fit_are_refused(manifest, tmp_path):
    manifest.with_suffix(".wrd").write_text("ONE\n")
    with pytest.raises(InputError, match="1 lines for 2 utterances"):
        perturb_speed(manifest, (1.1,), tmp_path / "more.tsv")
    assert not (tmp_path / "more.tsv").exists()


def test_the_tool_says_what_is_wrong_with_its_factors(manifest, tmp_path):
    arguments = ["--manifest", manifest, "--factors", "fast", "--out", tmp_path / "more.tsv"]
    finished = subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: --factors fast")


def test_slices_of_a_zip_have_copies_of_their_own(manifest, tmp_path):
    pack(read_manifest(manifest), tmp_path / "packed.tsv", RATE)
    perturb_speed(tmp_path / "packed.tsv", (0.9,), tmp_path / "slow.tsv")
    made = read_manifest(tmp_path / "slow.tsv")
    assert len({entry.path for entry in made.entries}) == 2
    assert [entry.samples for entry in made.entries] == pytest.approx([16000 / 0.9, 20000 / 0.9], abs=2)
