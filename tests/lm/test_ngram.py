"""n-gram training: KenLM's own counts in, closed-form probabilities out, where its programs are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from ccc_w2v.errors import InputError
from ccc_w2v.lm.ngram import train_ngram
from tests.run_tool import run_with
from tests.tiny_pieces import train_pieces

needs_lmplz = pytest.mark.skipif(
    not (shutil.which("lmplz") and shutil.which("build_binary")), reason="KenLM's programs are not on the PATH"
)
TEXT = "The cat sat\nthe cat\n\nthe hat sat.\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


@needs_lmplz
def test_words_sum_to_one_and_seen_ones_weigh_more(text: Path, tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    assert train_ngram([text], tmp_path / "words.arpa", order=2, rules="librispeech", memory="200M") == 3
    model = kenlm.Model(str(tmp_path / "words.arpa"))
    words = ["THE", "CAT", "SAT", "HAT"]
    ends = {
        word: [10 ** list(model.full_scores(f"{word} {after}", eos=False))[1][0] for after in words] for word in words
    }
    for word, probabilities in ends.items():
        end = 10 ** list(model.full_scores(word))[1][0]
        unknown = 10 ** list(model.full_scores(f"{word} ZZZ", eos=False))[1][0]
        assert sum(probabilities) + end + unknown == pytest.approx(1, abs=1e-4)
    assert ends["THE"][1] > ends["THE"][2]
    assert "cat" not in model


@needs_lmplz
def test_the_binary_says_what_the_arpa_says(text: Path, tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    models = []
    for name in ("letters.arpa", "letters.bin"):
        command = [
            "train_lm",
            text,
            "--out",
            tmp_path / name,
            "--order",
            3,
            "--letters",
            "--normalize",
            "librispeech",
            "--memory",
            "200M",
        ]
        assert run_with(*command) == 0
        models.append(kenlm.Model(str(tmp_path / name)))
    arpa, binary = (model.score("T H E | C A T |") for model in models)
    assert arpa == pytest.approx(binary, abs=1e-4)
    assert models[0].score("T H E |") > models[0].score("H T | E")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters.arpa", "letters.bin", "text.txt"]


@needs_lmplz
def test_bad_text_leaves_nothing(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "lm.arpa"
    with pytest.raises(InputError, match=r"gone\.txt: no such text"):
        train_ngram([text, tmp_path / "gone.txt"], out)
    (tmp_path / "empty.txt").write_text("...\n\n")
    with pytest.raises(InputError, match=r"empty\.txt: no sentence in it"):
        train_ngram([tmp_path / "empty.txt"], out, rules="librispeech")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match=r"latin\.txt: not UTF-8 text"):
        train_ngram([tmp_path / "latin.txt"], out)
    with pytest.raises(InputError, match="lmplz failed with exit code"):
        train_ngram([text], out, order=2, prune=[5, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt", "latin.txt", "text.txt"]
    out.write_text("kept")
    with pytest.raises(InputError, match=r"lm\.arpa: exists already"):
        train_ngram([text], out)
    assert out.read_text() == "kept"


def test_units_are_words_letters_or_pieces(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In place of lmplz, what keeps the text that it is given.
    program = (
        "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ $1 = --text ] && t=$2; [ $1 = --arpa ] && a=$2; shift; done\ncp $t $a\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lmplz").write_text(program)
    (tmp_path / "bin" / "lmplz").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    trained = train_pieces(tmp_path)
    processor = SentencePieceProcessor(model_file=str(trained))
    pieces = [" ".join(processor.encode(line, out_type=str)) for line in ("THE CAT SAT", "THE CAT", "THE HAT SAT")]
    expected = {
        "words": ({}, ["THE CAT SAT", "THE CAT", "THE HAT SAT"]),
        "letters": ({"letters": True}, ["T H E | C A T | S A T |", "T H E | C A T |", "T H E | H A T | S A T |"]),
        "pieces": ({"sentencepiece": trained}, pieces),
    }
    for name, (units, lines) in expected.items():
        assert train_ngram([text], tmp_path / f"{name}.arpa", rules="librispeech", **units) == 3
        assert (tmp_path / f"{name}.arpa").read_text().splitlines() == lines
    with pytest.raises(InputError, match="a model of letters or one of pieces"):
        train_ngram([text], tmp_path / "both.arpa", letters=True, sentencepiece=trained)


def test_without_kenlms_programs_one_line_says_where_they_are(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_with("train_lm", text, "--out", tmp_path / "lm.arpa") == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: lmplz, KenLM's program, is not on the PATH; build it from https://github.com/kpu/kenlm"
    )
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
