"""Beam search against all paths, scored one by one with KenLM's own module."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ccc_w2v.data.trn import read_trn
from ccc_w2v.decode.beam import FILES, BeamSettings, beam_search, settings_from
from ccc_w2v.decode.ctc_model import CtcModel, load_ctc
from ccc_w2v.decode.greedy import greedy_search
from ccc_w2v.decode.network import emit
from ccc_w2v.errors import InputError
from tests.run_tool import run_tool
from tests.tiny_ctc import read_waves

LABELS = ("<s>", "<pad>", "</s>", "<unk>", "|", "A", "B")
BLANK, SILENCE = 0, 4
LETTER_ARPA = """\\data\\
ngram 1=6
ngram 2=2

\\1-grams:
-1.0\t<unk>\t0
0\t<s>\t-0.3
-0.9\t</s>
-0.5\t|\t-0.2
-0.7\tA\t-0.1
-0.6\tB\t-0.4

\\2-grams:
-0.2\tA B
-0.3\t<s> B

\\end\\
"""
WORD_ARPA = LETTER_ARPA.replace("|", "BA").replace("A B\n", "A BA\n")

needs_decoder = pytest.mark.usefixtures("decoder")


@pytest.fixture(scope="module")
def decoder() -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text has no wheel for Python 3.13")
    pytest.importorskip("kenlm")


@pytest.fixture
def arpa(tmp_path: Path) -> dict[str, str]:
    files = {"letters": LETTER_ARPA, "words": WORD_ARPA, "lexicon": "A\nB B |\nBA\n"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return {name: str(tmp_path / name) for name in files}


def model() -> CtcModel:
    return CtcModel(torch.nn.Module(), LABELS, BLANK, 16000, False, "letter", 400, 320, False)


def emission(frames: int, seed: int) -> torch.Tensor:
    return torch.randn(frames, len(LABELS), generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def best_of_all_paths(
    log_probs_TV: torch.Tensor,
    symbols: tuple[int, ...],
    read: Callable[[list[str]], list[str] | None],
    extra: Callable[[list[str]], float],
    network: CtcModel | None = None,
) -> list[float]:
    """Return the best total of each reading, best first.

    ``read`` turns a path's symbols into what the language model counts, None where they are nothing; ``extra`` is what
    is added for it. The decoder starts in silence, so that a "|" (pieces: </s>) in the first frames is no symbol.
    """
    acoustic: dict[tuple[str, ...], float] = {}
    labels = network.labels if network else LABELS
    silence = labels.index("</s>") if network else SILENCE
    values = log_probs_TV.tolist()
    for path in itertools.product(symbols, repeat=len(values)):
        collapsed = [index for index, _ in itertools.groupby((silence, *path))][1:]
        reading = read([labels[index] for index in collapsed if index != BLANK])
        if reading is not None:
            score = sum(row[index] for row, index in zip(values, path, strict=True))
            acoustic[tuple(reading)] = max(acoustic.get(tuple(reading), -1e9), score)
    return sorted((score + extra(list(reading)) for reading, score in acoustic.items()), reverse=True)


@needs_decoder
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
def test_without_a_language_model_the_best_is_greedys(kind: str, seed: int) -> None:
    log_probs_TV = emission(30, seed)
    network = model()
    if kind == "sentencepiece":
        network = dataclasses.replace(network, labels=(*LABELS[:4], "\u2581A", "A", "\u2581B"), post_process=kind)
    best, *others = beam_search(network, BeamSettings(beam=50, nbest=5))(log_probs_TV)
    (expected,) = greedy_search(network)(log_probs_TV)
    assert best.words == expected.words
    assert (best.acoustic, best.lm, best.total) == pytest.approx((expected.acoustic, 0, expected.total), abs=1e-4)
    assert all(best.total >= other.total for other in others)


@needs_decoder
@pytest.mark.parametrize("seed", range(3))
def test_letter_model_finds_the_best_of_all_paths(arpa: dict[str, str], seed: int) -> None:
    import kenlm

    log_probs_TV, language_model = emission(5, seed), kenlm.Model(arpa["letters"])
    search = beam_search(model(), BeamSettings(beam=20000, nbest=10, lm=arpa["letters"], lm_weight=0.7))
    hypotheses = search(log_probs_TV)
    expected = best_of_all_paths(
        log_probs_TV,
        tuple(range(len(LABELS))),
        lambda symbols: symbols,
        lambda symbols: 0.7 * language_model.score(" ".join(symbols)),
    )
    assert [hypothesis.total for hypothesis in hypotheses] == pytest.approx(expected[:10], abs=1e-4)
    for hypothesis in hypotheses:
        assert hypothesis.total == pytest.approx(hypothesis.acoustic + 0.7 * hypothesis.lm, abs=1e-4)


@needs_decoder
@pytest.mark.parametrize("seed", range(3))
def test_lexicon_finds_the_best_of_all_word_sequences(arpa: dict[str, str], seed: int) -> None:
    import kenlm

    log_probs_TV, language_model = emission(7, seed), kenlm.Model(arpa["words"])
    settings = BeamSettings(20000, 10, arpa["words"], arpa["lexicon"], lm_weight=0.7, word_score=-0.4)
    hypotheses = beam_search(model(), settings)(log_probs_TV)

    def read(symbols: list[str]) -> list[str] | None:
        *words, rest = "".join(symbols).split("|")
        words = [word for word in words if word]  # silence may come more than once
        return words if not rest and set(words) <= {"A", "B", "BA"} else None

    def extra(words: list[str]) -> float:
        return 0.7 * language_model.score(" ".join(words)) - 0.4 * len(words)

    expected = best_of_all_paths(log_probs_TV, (BLANK, SILENCE, 5, 6), read, extra)
    assert [hypothesis.total for hypothesis in hypotheses] == pytest.approx(expected[:10], abs=1e-4)
    for hypothesis in hypotheses:
        assert set(hypothesis.text.split()) <= {"A", "B", "BA"}
        assert hypothesis.lm == pytest.approx(language_model.score(hypothesis.text), abs=1e-4)
        assert hypothesis.total == pytest.approx(
            hypothesis.acoustic + 0.7 * hypothesis.lm - 0.4 * len(hypothesis.words), abs=1e-4
        )


PIECES = ("<s>", "<pad>", "</s>", "<unk>", "\u2581A", "A", "\u2581B")
PIECE_LEXICON = "A \u2581A\nB \u2581B\nBA \u2581B A\nAA \u2581A A\n"
PIECE_ARPA = LETTER_ARPA.replace("|", "\u2581A").replace("B", "\u2581B").replace("A \u2581B\n", "A \u2581A\n")


def piece_model() -> CtcModel:
    return dataclasses.replace(model(), labels=PIECES, post_process="sentencepiece")


@needs_decoder
@pytest.mark.parametrize("seed", range(3))
def test_piece_model_finds_the_best_of_all_paths(tmp_path: Path, seed: int) -> None:
    import kenlm

    (tmp_path / "pieces").write_text(PIECE_ARPA)
    log_probs_TV, language_model = emission(5, seed), kenlm.Model(str(tmp_path / "pieces"))
    hypotheses = beam_search(piece_model(), BeamSettings(20000, 10, str(tmp_path / "pieces"), lm_weight=0.7))(
        log_probs_TV
    )
    expected = best_of_all_paths(
        log_probs_TV,
        tuple(range(len(PIECES))),
        lambda symbols: symbols,
        lambda symbols: 0.7 * language_model.score(" ".join(symbols)),
        piece_model(),
    )
    assert [hypothesis.total for hypothesis in hypotheses] == pytest.approx(expected[:10], abs=1e-4)


@needs_decoder
@pytest.mark.parametrize("seed", range(6))
def test_lexicon_of_pieces_finds_the_best_of_all_word_sequences(tmp_path: Path, seed: int) -> None:
    import kenlm

    (tmp_path / "lexicon").write_text(PIECE_LEXICON)
    (tmp_path / "words").write_text(WORD_ARPA)
    log_probs_TV, language_model = emission(6, seed), kenlm.Model(str(tmp_path / "words"))
    settings = BeamSettings(
        20000, 10, str(tmp_path / "words"), str(tmp_path / "lexicon"), lm_weight=0.7, word_score=-0.4
    )
    hypotheses = beam_search(piece_model(), settings)(log_probs_TV)

    def read(symbols: list[str]) -> list[str] | None:
        # As everywhere in this decoder, silence may stand between words alone; here it is </s>.
        spelt = "".join("\u2581 " if symbol == "</s>" else symbol for symbol in symbols)
        if " A" in spelt or spelt.startswith("A"):
            return None
        words = [word for word in spelt.replace("\u2581 ", "").split("\u2581") if word]
        return words if set(words) <= {"A", "B", "BA", "AA"} else None

    def extra(words: list[str]) -> float:
        return 0.7 * language_model.score(" ".join(words)) - 0.4 * len(words)

    expected = best_of_all_paths(log_probs_TV, (BLANK, 2, 4, 5, 6), read, extra, piece_model())
    # A word may last for several frames at its last piece. Of the others one may be missing: see _hypothesis.
    assert hypotheses[0].total == pytest.approx(expected[0], abs=1e-4)
    for hypothesis in hypotheses:
        assert min(abs(hypothesis.total - total) for total in expected) < 1e-4
        assert set(hypothesis.text.split()) <= {"A", "B", "BA", "AA"}
        assert hypothesis.lm == pytest.approx(language_model.score(hypothesis.text), abs=1e-4)


@needs_decoder
def test_a_word_spelt_otherwise_is_the_lexicons(tmp_path: Path) -> None:
    (tmp_path / "lexicon").write_text("2B A B |\n")
    log_probs_TV = (5 * torch.nn.functional.one_hot(torch.tensor([5, 0, 6, 4, 5, 6, 6, 4]), len(LABELS))).float()
    (best,) = beam_search(model(), BeamSettings(50, lexicon=str(tmp_path / "lexicon")))(log_probs_TV.log_softmax(-1))
    assert [(word.text, round(word.start, 2)) for word in best.words] == [("2B", 0.0), ("2B", 0.08)]


@needs_decoder
def test_refuses_what_it_cannot_search_with(arpa: dict[str, str], tmp_path: Path) -> None:
    def refused(message: str, **settings: object) -> None:
        with pytest.raises(InputError, match=message):
            beam_search(model(), BeamSettings(**{"beam": 5, **settings}))

    refused("a beam of 5 with 6 best", nbest=6)
    refused("a beam of 0 with 1 best", beam=0)
    refused("a word score needs a lexicon", word_score=1.0)
    (tmp_path / "bad").write_text("A\nCAB\n")
    refused(
        r"bad:2: 'CAB' has the unknown symbol 'C'; expected symbols of the model: \| A B", lexicon=str(tmp_path / "bad")
    )
    refused("bad: KenLM cannot read it", lm=str(tmp_path / "bad"))
    (tmp_path / "bad").write_text("\n")
    refused("bad: holds no word", lexicon=str(tmp_path / "bad"))


def test_settings_need_a_beam() -> None:
    unset = dict.fromkeys(("beam", "nbest", "lm", "lexicon", "lm_weight", "word_score"))

    def settings(**options: object) -> BeamSettings | None:
        return settings_from(argparse.Namespace(**{**unset, **options}))

    assert settings() is None
    assert settings(beam=7, lm_weight=0.5) == BeamSettings(7, lm_weight=0.5)
    with pytest.raises(InputError, match="--lm, --lm-weight: only beam search uses this; give --beam too"):
        settings(lm="x", lm_weight=1.0)
    for name, what in FILES.items():
        with pytest.raises(InputError, match=f"gone: no such {what}"):
            settings(beam=7, **{name: "gone"})


def test_without_the_decoder_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder.kenlm", None)
    with pytest.raises(InputError, match="beam search needs flashlight-text and kenlm: pip install"):
        beam_search(model(), BeamSettings(beam=5))


@needs_decoder
def test_tool_writes_the_n_best(
    checkpoint: Path, test_set: Path, tmp_path: Path, arpa: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.txt").write_text("THE\nCAT\nA\nHAT\nSAT\nIS\nIT\n")
    options = {"checkpoint": checkpoint, "manifest": test_set, "out": tmp_path / "out", "beam": 30}
    searched = {"lexicon": tmp_path / "words.txt", "nbest": 3, "word_score": 0.5}
    assert run_tool("decode", **options, **searched) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "nbest.jsonl").read_text().splitlines()]
    assert {line["id"]: line["nbest"][0]["text"] for line in lines} == read_trn(tmp_path / "out" / "hyp.trn")
    expected = beam_search(load_ctc(checkpoint), BeamSettings(30, 3, None, str(searched["lexicon"]), word_score=0.5))
    for line, log_probs_TV in zip(lines, emit(load_ctc(checkpoint), read_waves(test_set)), strict=True):
        hypotheses = expected(log_probs_TV)
        assert [hypothesis["text"] for hypothesis in line["nbest"]] == [hypothesis.text for hypothesis in hypotheses]
        assert [hypothesis["total"] for hypothesis in line["nbest"]] == pytest.approx(
            [hypothesis.total for hypothesis in hypotheses], abs=1e-3
        )
    capsys.readouterr()
    assert run_tool("decode", **{**options, "lm": tmp_path / "none.arpa"}) == 2
    assert "none.arpa: no such language model" in capsys.readouterr().err
