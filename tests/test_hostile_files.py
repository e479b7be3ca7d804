"""Files that are not what a tool expects: one line on stderr, exit code 2, nothing written or half-written."""

from __future__ import annotations

import errno
import os
import re
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ccc_w2v.cli.main import COMMANDS
from ccc_w2v.data.cuts import read_cuts
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.packing import pack
from ccc_w2v.data.stm import read_ctm, read_stm
from ccc_w2v.errors import InputError
from ccc_w2v.export.card import read_score
from ccc_w2v.score.hub5.glm import read_glm
from ccc_w2v.text_files import read_lines
from tests.fake_corpora import RATE, write_corpus, write_labels
from tests.run_tool import run_with


def bad_files(folder: Path) -> dict[str, Path]:
    """Return what users hand in by mistake, by what it is."""
    files = {name: folder / name for name in ("silent.wav", "speech.wav", "folder", "empty", "utf16", "gone", "zip")}
    soundfile.write(files["silent.wav"], np.zeros(400), RATE, subtype="PCM_16")  # its bytes are valid UTF-8
    soundfile.write(files["speech.wav"], np.linspace(-1, 1, 400), RATE, subtype="PCM_16")
    files["folder"].mkdir()
    files["empty"].touch()
    files["utf16"].write_text("/root\na.wav\t1\n", encoding="utf-16")
    with zipfile.ZipFile(files["zip"], "w") as archive:
        archive.writestr("a", bytes(range(256)))
    return files


BAD = ("silent.wav", "speech.wav", "folder", "empty", "utf16", "gone", "zip")
# Where "{bad}" stands comes the bad file; "{good}" is a manifest, "{trn}" a transcript.
TOOLS = {
    "check_manifest": ["{bad}", "--out", "{out}.tsv"],
    "pack": ["{bad}", "--out", "{out}.tsv"],
    "perturb_speed": ["--manifest", "{bad}", "--out", "{out}.tsv"],
    "score": ["--ref", "{bad}", "--hyp", "{trn}", "--json", "{out}.json"],
    "score of a hypothesis": ["--ref", "{trn}", "--hyp", "{bad}", "--json", "{out}.json"],
    "score by speakers": ["--ref", "{trn}", "--hyp", "{trn}", "--groups", "{bad}", "--json", "{out}.json"],
    "score by conditions": ["--ref", "{trn}", "--hyp", "{trn}", "--conditions", "{bad}", "--json", "{out}.json"],
    "compare": ["{trn}", "{bad}", "--ref", "{trn}", "--json", "{out}.json"],
    "report": ["{trn}", "--ref", "{trn}", "--manifest", "{bad}", "--out", "{out}.html"],
    "train_sentencepiece": ["{bad}", "--size", "10", "--out", "{out}"],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "good.trn").write_text("A B (u1)\nC (u2)\n")
    return {"trn": folder / "good.trn", "good": write_corpus(folder, [4000]), **bad_files(folder)}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("tool", TOOLS)
def test_a_wrong_file_is_one_line(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str, bad: str
) -> None:
    names = {"bad": inputs[bad], "out": tmp_path / "out", "trn": inputs["trn"], "good": inputs["good"]}
    assert run_with(tool.partition(" ")[0], *(part.format(**names) for part in TOOLS[tool])) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    assert "Traceback" not in last
    assert not list(tmp_path.iterdir())
    if bad == "folder" and tool != "compare":  # compare takes folders
        assert "is a folder, expected a" in last
        assert "no such" not in last


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "reader", [read_stm, read_ctm, read_cuts, lambda path: read_glm(path, "stm", "ref"), read_score]
)
def test_a_wrong_file_of_nist_or_of_a_score_is_an_input_error(inputs, reader, bad: str) -> None:
    expected = (InputError, IsADirectoryError, FileNotFoundError) if reader is read_score else InputError
    with pytest.raises(expected):
        reader(inputs[bad])


def test_nist_files_with_a_byte_order_mark_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.stm").write_text("x 1 s 0.0 1.0 HELLO\n", encoding="utf-8-sig")
    with pytest.raises(InputError, match="a.stm:1: a byte-order mark, which NIST's programs take for text"):
        read_stm(tmp_path / "a.stm")


def test_a_score_beside_other_hypotheses_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    hypotheses = tmp_path / "hyp.trn"
    hypotheses.write_bytes(inputs["trn"].read_bytes())
    assert run_with("score", "--ref", inputs["trn"], "--hyp", hypotheses, "--json", tmp_path / "score.json") == 0
    assert read_score(tmp_path / "score.json").wer == 0
    hypotheses.write_text("X Y (u1)\nC (u2)\n")
    with pytest.raises(InputError, match="scores other hypotheses than .*hyp.trn holds now"):
        read_score(tmp_path / "score.json")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("/root\nx.wav\t5\n", encoding="utf-8-sig")
    assert read_manifest(tmp_path / "a.tsv").root == "/root"
    (tmp_path / "lines").write_bytes(b"\xef\xbb\xbfA\xc2\x85B\r\nC\x0bD\n")
    assert read_lines(tmp_path / "lines", "text", "lines") == ["A\x85B", "C\x0bD"]  # a line ends at its newline only


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0)
    with pytest.raises(InputError, match="a: cannot be read"):
        read_lines(tmp_path / "a", "text", "lines")


@pytest.mark.parametrize(("tool", "option"), [("pack", []), ("perturb_speed", ["--manifest"])])
def test_a_full_disk_leaves_no_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str, option: list[str]
) -> None:
    corpus = write_corpus(tmp_path / "raw", [20_000, 60_000])
    write_labels(corpus, ["A", "B"])
    out = tmp_path / "new" / "train.tsv"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        assert run_with(tool, *option, corpus, "--out", out) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "free some space" in last
    assert not out.exists()
    assert not [path for path in out.parent.rglob("*") if "partial" in path.name or path.suffix == ".zip"]
    # The same command does it once there is room.
    assert run_with(tool, *option, corpus, "--out", out) == 0


def test_a_disk_that_is_full_at_a_zips_end_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus(tmp_path / "raw", [4000, 4000])

    def full(self: zipfile.ZipFile) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "_write_end_record", full)
    with pytest.raises(OSError, match="No space left"):
        pack(read_manifest(corpus), tmp_path / "new" / "train.tsv", RATE)
    assert not list((tmp_path / "new").iterdir())


def test_many_equal_faults_are_three_lines_and_a_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(tmp_path, [4000] * 30)
    (tmp_path / "audio" / "train7.wav").unlink()
    assert run_with("check_manifest", corpus, "--sample-rate", 8000) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3 + 1 + 1
    assert "26 more lines like this one (sample rate 16000 Hz, expected 8000 Hz" in errors[3]
    assert "--report FILE.json lists all" in errors[3]
    assert "train7.wav: no such file" in errors[4]


def test_messages_name_commands_that_exist() -> None:
    root = Path(__file__).parents[1]
    sources = [*root.glob("ccc_w2v/**/*.py"), *root.glob("recipes/**/*.sh")]
    calls = re.compile(r"\bccc-w2v ([a-z][a-z0-9-]*)(?: ([a-z][a-z0-9-]*))?")
    named = {match.groups("") for path in sources for match in calls.finditer(path.read_text())}
    unknown = [words for words in named if " ".join(words) not in COMMANDS and words[0] not in COMMANDS]
    assert len(named) > 15
    assert unknown == []
