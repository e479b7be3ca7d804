"""ccc-w2v benchmark decode runs whole on a tiny model, its made-up language is one; times are not asserted on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ccc_w2v.benchmark.decode_rivals import viterbi_decoder
from ccc_w2v.benchmark.language import ORDER, heard, invent, write_arpa
from ccc_w2v.benchmark.random_ctc import LETTERS
from ccc_w2v.decode.greedy import greedy, to_words
from ccc_w2v.score.wer import count_errors
from tests.run_tool import one_line_error, run_with

LABELS = ("<s>", "<pad>", "</s>", "<unk>", *LETTERS)
TINY = ("--size", "tiny", "--utterances", 2, "--rounds", 1, "--threads", 1)
GREEDY = {"greedy_time_ratio_vs_transformers", "greedy_time_ratio_vs_fairseq", "greedy_real_time_factor"}


def test_greedy_measures_three_that_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with("benchmark", "decode", *TINY, "--beam-rounds", 0) == 0
    printed = capsys.readouterr().out.splitlines()
    result = json.loads(printed[-1])
    assert result.keys() == GREEDY
    assert all(value > 0 for value in result.values())
    for name in ("transformers", "fairseq"):
        (line,) = [line for line in printed if line.endswith(f"letters are other than those of {name}, one at a time")]
        different, _, letters, *_ = line.split()
        # One letter in a hundred: of a random network's symbols some are equal to the last digit.
        assert int(different) <= 0.01 * int(letters)
        assert int(letters) > 50


def test_beams_are_measured_or_the_reason_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text has no wheel for Python 3.13")
    assert run_with("benchmark", "decode", *TINY, "--beam-rounds", 1, "--beams", 5, 20) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    assert result["beam_5_real_time_factor"] > 0
    assert result["beam_20_real_time_factor"] > 0
    assert "ours: " in printed
    if result["beam_time_ratio_vs_transformers"] is None:
        assert "pip install --no-deps pyctcdecode==0.5.0" in printed


def test_mistakes_are_named_before_anything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_with("benchmark", "decode", *TINY, "--manifest", tmp_path / "gone.tsv") == 2
    assert "gone.tsv: no such manifest" in one_line_error(capsys)
    assert run_with("benchmark", "decode", *TINY, "--checkpoint", tmp_path / "gone.pt") == 2
    assert "error: " + str(tmp_path / "gone.pt") + ": no such checkpoint" in capsys.readouterr().err


def test_fairseqs_decoder_is_fairseqs() -> None:
    assert "fairseq" in __import__("inspect").getsourcefile(viterbi_decoder())


def test_the_model_of_the_language_is_a_model(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    draw = np.random.default_rng(0)
    words = [f"W{index}" for index in range(12)]
    sentences = [[str(word) for word in draw.choice(words, size=6)] for _ in range(40)]
    write_arpa(tmp_path / "words.arpa", sentences, words, ORDER)
    model = kenlm.Model(str(tmp_path / "words.arpa"))
    assert model.order == ORDER
    # After any history the probabilities of all words and the end add up to one.
    for history in ([], ["W3"], sentences[0][:3], ["W1", "W1", "W1", "W1"]):
        state, after = kenlm.State(), kenlm.State()
        model.BeginSentenceWrite(state)
        for word in history:
            model.BaseScore(state, word, after)
            state, after = after, kenlm.State()
        total = sum(10 ** model.BaseScore(state, word, after) for word in (*words, "</s>", "<unk>"))
        assert total == pytest.approx(1, abs=1e-3)


def test_what_is_heard_is_the_text_with_mistakes(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    language = invent(tmp_path, draw)
    text, log_probs_TV = heard(language.sentences, 2000, LABELS, 0, draw)
    assert log_probs_TV.shape == (2000, len(LABELS))
    assert log_probs_TV.exp().sum(dim=1).numpy() == pytest.approx(1, abs=1e-4)
    spelt, read = " ".join(text.split()), " ".join(to_words(greedy(log_probs_TV, 0), LABELS))
    counted = count_errors(spelt, read)
    assert 0.05 < counted.errors / counted.words < 0.25
    lexicon = language.lexicon.read_text().split()
    assert set(text.split()) <= set(lexicon)
