"""Checkpoints of pieces: greedy against fairseq and sentencepiece, and beams whose lexicon sentencepiece spells."""

from __future__ import annotations

import json
from pathlib import Path

import editdistance
import pytest
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from sentencepiece import SentencePieceProcessor

from ccc_w2v.benchmark.random_ctc import trainer_state
from ccc_w2v.decode.beam import BeamSettings, beam_search
from ccc_w2v.decode.ctc_model import load_ctc
from ccc_w2v.decode.greedy import greedy, greedy_search
from ccc_w2v.decode.lexicon import read_lexicon
from ccc_w2v.decode.network import emit
from ccc_w2v.errors import InputError
from tests.fake_corpora import write_corpus
from tests.run_tool import run_tool
from tests.tiny_ctc import build_ctc, read_waves, save
from tests.tiny_pieces import TEXTS, pieces_of, train_pieces

SAMPLES = [8000, 12345, 9600]
WORDS = ["THE", "CAT", "SAT", "ON", "A", "I", "IS", "US", "LINE", "PRESS"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with its pieces as labels, a sentencepiece model, a random checkpoint and a lexicon of words alone."""
    path = tmp_path_factory.mktemp("pieces")
    trained = train_pieces(path)
    (path / "dict.ltr.txt").write_text("".join(f"{piece} 1\n" for piece in pieces_of(trained)))
    manifest, processor = write_corpus(path, SAMPLES, name="test"), SentencePieceProcessor(model_file=str(trained))
    manifest.with_suffix(".wrd").write_text("".join(f"{text}\n" for text in TEXTS[:3]))
    spelt = (" ".join(processor.encode(text, out_type=str)) for text in TEXTS[:3])
    manifest.with_suffix(".ltr").write_text("".join(f"{line}\n" for line in spelt))
    task, network, cfg = build_ctc(path)
    cfg["criterion"]["post_process"] = "sentencepiece"
    save(trainer_state(task, network, cfg), path / "ctc.pt")
    (path / "words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return path


def test_greedy_is_fairseqs_and_reads_as_sentencepiece(folder: Path) -> None:
    model, waves = load_ctc(folder / "ctc.pt"), read_waves(folder / "test.tsv")
    assert model.post_process == "sentencepiece"
    emissions = emit(model, waves)
    texts = [greedy_search(model)(log_probs_TV)[0].text for log_probs_TV in emissions]
    assert all(texts)
    processor = SentencePieceProcessor(model_file=str(folder / "unigram.model"))
    for text, log_probs_TV in zip(texts, emissions, strict=True):
        pieces = [model.labels[index] for index in greedy(log_probs_TV, model.blank)]
        read = [piece for piece in pieces if piece not in ("<s>", "</s>", "<pad>", "<unk>")]
        assert "".join(text.split()) == "".join("".join(pieces).replace("\u2581", "").replace("</s>", "").split())
        if read == [piece for piece in pieces if piece != "</s>"]:
            assert text == processor.decode_pieces(read).strip()

    task, network, _ = build_ctc(folder)
    task.load_dataset("test")
    criterion = CtcCriterion(CtcCriterionConfig(sentence_avg=True, post_process="sentencepiece"), task).eval()
    for index, text in enumerate(texts):
        _, _, logged = criterion(network, task.dataset("test").collater([task.dataset("test")[index]]))
        assert logged["w_total"] == len(TEXTS[index].split())
        assert logged["w_errors"] == editdistance.eval(text.split(), TEXTS[index].split())


def test_a_lexicon_is_spelt_by_sentencepiece(folder: Path, tmp_path: Path) -> None:
    model, trained = load_ctc(folder / "ctc.pt"), folder / "unigram.model"
    processor = SentencePieceProcessor(model_file=str(trained))
    spelt = read_lexicon(folder / "words.txt", model, trained)
    assert spelt == {word: [processor.encode(word, out_type=str)] for word in WORDS}
    # Some are of more than one piece, and each piece is the model's.
    assert max(len(spelling) for (spelling,) in spelt.values()) > 1
    (tmp_path / "some").write_text("THE T H E\nTHE\nON\n")
    assert read_lexicon(tmp_path / "some", model, trained)["THE"] == [["T", "H", "E"], *spelt["THE"]]
    with pytest.raises(InputError, match=r"words\.txt:1: 'THE' has no spelling \(name the model's --sentencepiece\)"):
        read_lexicon(folder / "words.txt", model)
    (tmp_path / "some").write_text("\u00c5\n")
    with pytest.raises(InputError, match="some:1: '\u00c5' has the unknown symbol"):
        read_lexicon(tmp_path / "some", model, trained)


def test_tool_searches_with_a_lexicon_of_pieces(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text has no wheel for Python 3.13")
    pytest.importorskip("kenlm")
    decoded = {"checkpoint": folder / "ctc.pt", "manifest": folder / "test.tsv"}
    options = {**decoded, "beam": 40, "nbest": 3}
    searched = {"lexicon": folder / "words.txt", "sentencepiece": folder / "unigram.model", "word_score": 1.0}
    assert run_tool("decode", **options, **searched, out=tmp_path / "lexicon") == 0
    lines = [json.loads(line) for line in (tmp_path / "lexicon" / "nbest.jsonl").read_text().splitlines()]
    for line in lines:
        assert len(line["nbest"]) == 3
        assert all(set(hypothesis["text"].split()) <= set(WORDS) for hypothesis in line["nbest"])
    assert any(line["nbest"][0]["text"] for line in lines)
    # The same words spelt in the file are the same search.
    model = load_ctc(folder / "ctc.pt")
    spellings = read_lexicon(folder / "words.txt", model, folder / "unigram.model")
    (tmp_path / "spelt.txt").write_text("".join(f"{word} {' '.join(s)}\n" for word, (s,) in spellings.items()))
    spelt = beam_search(model, BeamSettings(40, 3, lexicon=str(tmp_path / "spelt.txt"), word_score=1.0))
    for line, log_probs_TV in zip(lines, emit(model, read_waves(folder / "test.tsv")), strict=True):
        assert [hypothesis["text"] for hypothesis in line["nbest"]] == [
            hypothesis.text for hypothesis in spelt(log_probs_TV)
        ]
    # Without a lexicon and a language model the best is greedy's.
    assert run_tool("decode", **options, out=tmp_path / "free") == 0
    assert run_tool("decode", **decoded, out=tmp_path / "best") == 0
    assert (tmp_path / "free" / "hyp.trn").read_bytes() == (tmp_path / "best" / "hyp.trn").read_bytes()
    capsys.readouterr()
    assert run_tool("decode", **options, sentencepiece=tmp_path / "none", out=tmp_path / "bad") == 2
    assert "none: no such sentencepiece model" in capsys.readouterr().err
