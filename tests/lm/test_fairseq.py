"""Language models of fairseq against fairseq's own scorer, and what is refused."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import models
from fairseq.data.dictionary import Dictionary
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from fairseq.sequence_scorer import SequenceScorer
from fairseq.tasks.language_modeling import LanguageModelingTask
from omegaconf import OmegaConf
from sentencepiece import SentencePieceProcessor

from ccc_w2v.data.trn import read_trn
from ccc_w2v.errors import InputError
from ccc_w2v.lm import causal
from ccc_w2v.lm.causal import log_probabilities
from ccc_w2v.lm.fairseq import load_fairseq_lm
from ccc_w2v.lm.rescore import load_language_model
from tests.run_tool import as_arguments, run_tool, run_with
from tests.tiny_ctc import save
from tests.tiny_pieces import TEXTS as PIECE_TEXTS
from tests.tiny_pieces import pieces_of, train_pieces

WORDS = ["the", "cat", "sat", "mat", "on", "is", "a"]
TEXTS = ["the cat sat on the mat", "cat", "", "the zebra is a cat"]
TINY = {"decoder_embed_dim": 16, "decoder_ffn_embed_dim": 32, "decoder_layers": 2, "decoder_attention_heads": 2}
TINY |= {"decoder_input_dim": 16, "decoder_output_dim": 16, "max_target_positions": 12, "tokens_per_sample": 12}
TINY |= {"share_decoder_input_output_embed": True, "dropout": 0.1, "decoder_normalize_before": True}
ADAPTIVE = {"adaptive_input": True, "adaptive_input_cutoff": "5,8", "adaptive_softmax_cutoff": "5,8"}
ADAPTIVE |= {"tie_adaptive_weights": True, "share_decoder_input_output_embed": False}
KINDS: dict[str, dict[str, Any]] = {"tied": {}, "adaptive": ADAPTIVE, "learned": {"decoder_learned_pos": True}}


def write_lm(
    folder: Path, settings: dict[str, Any], symbols: list[str] = WORDS, *, old: bool = False, bos: bool = False
) -> tuple[Path, Any, Dictionary]:
    """Write a random transformer_lm and its dict.txt as fairseq does; returns path, network and dictionary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    task_settings = {"_name": "language_modeling", "data": "gone", "add_bos_token": bos}
    config = OmegaConf.structured(TransformerLanguageModelConfig(**{**TINY, **settings}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = LanguageModelingTask(argparse.Namespace(**task_settings), dictionary)
        network = models.transformer_lm.TransformerLanguageModel.build_model(config, task)
        # A fresh model's predictions are all alike.
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=0.5)
    plain = OmegaConf.to_container(config, enum_to_str=True)
    plain = {name: value for name, value in plain.items() if not str(value).startswith("${")}
    state = {"model": network.state_dict(), "args": None, "extra_state": {}, "optimizer_history": []}
    state["cfg"] = {"model": {**plain, "_name": "transformer_lm"}, "task": task_settings}
    if old:
        known = {**plain, "arch": "transformer_lm_gpt", "task": "language_modeling", "add_bos_token": bos}
        state.update(args=argparse.Namespace(**known), cfg=None)
    return save(state, folder / "lm.pt"), network.eval(), dictionary


def fairseqs_scores(network: Any, dictionary: Dictionary, texts: list[str], begin: int) -> list[float]:
    """Score each text alone, its end included, with fairseq's SequenceScorer."""
    scores = []
    for text in texts:
        target = torch.tensor([[*(dictionary.index(word) for word in text.split()), dictionary.eos()]])
        source = torch.cat([torch.tensor([[begin]]), target[:, :-1]], dim=1)
        sample = {"net_input": {"src_tokens": source, "src_lengths": torch.tensor([source.shape[1]])}, "target": target}
        ((best,),) = SequenceScorer(dictionary).generate([network], sample)
        scores.append(float(best["positional_scores"].sum()))
    return scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "bos"), [(False, False), (True, False), (False, True)])
def test_is_fairseqs_score_alone_and_together(tmp_path: Path, kind: str, old: bool, bos: bool) -> None:
    path, network, dictionary = write_lm(tmp_path, KINDS[kind], old=old, bos=bos)
    model = load_language_model(path)
    expected = fairseqs_scores(network, dictionary, TEXTS, dictionary.bos() if bos else dictionary.eos())
    assert log_probabilities(model, TEXTS) == pytest.approx(expected, rel=1e-4)
    assert len({round(score, 3) for score in expected}) == len(TEXTS)
    assert dictionary.index("zebra") == dictionary.unk()
    assert not model.network.training


def test_long_lists_are_scored_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_fairseq_lm(write_lm(tmp_path, {})[0])
    together, sizes = log_probabilities(model, TEXTS), []
    predict = model.predict

    def counted(tokens_BL: torch.Tensor, real_BL: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tokens_BL))
        return predict(tokens_BL, real_BL)

    monkeypatch.setattr(causal, "MAX_OUTPUTS", 3 * 8 * model.vocabulary)
    assert log_probabilities(dataclasses.replace(model, predict=counted), TEXTS) == pytest.approx(together, rel=1e-5)
    assert sizes == [3, 1]
    assert len(log_probabilities(model, ["a " * 11])) == 1
    with pytest.raises(InputError, match="a hypothesis of 13 tokens; the language model reads at most 12 at once"):
        log_probabilities(model, ["a", "a " * 12])


def test_pieces_are_sentencepieces(tmp_path: Path) -> None:
    trained = train_pieces(tmp_path)
    path, network, dictionary = write_lm(tmp_path, {"max_target_positions": 40}, pieces_of(trained))
    model = load_language_model(path, sentencepiece=trained)
    processor = SentencePieceProcessor(model_file=str(trained))
    spelt = [" ".join(processor.encode(text, out_type=str)) for text in PIECE_TEXTS]
    expected = fairseqs_scores(network, dictionary, spelt, dictionary.eos())
    assert log_probabilities(model, PIECE_TEXTS) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(InputError, match="none: no such sentencepiece model"):
        load_language_model(path, sentencepiece=tmp_path / "none")
    (tmp_path / "bad").write_text("x")
    with pytest.raises(InputError, match="bad: is no sentencepiece model"):
        load_language_model(path, sentencepiece=tmp_path / "bad")


def test_tool_ranks_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, network, dictionary = write_lm(tmp_path / "lm", {})
    scores = {"acoustic": -1.0, "lm": 0.0, "total": -1.0}
    line = {"id": "u", "nbest": [{"text": text.upper(), **scores} for text in TEXTS]}
    (tmp_path / "nbest.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "lm" / "dict.txt").rename(tmp_path / "words.txt")
    options = {"nbest": tmp_path / "nbest.jsonl", "lm": path, "out": tmp_path / "out", "weight": 0.5}
    assert run_tool("rescore", **options) == 2
    assert "lm/dict.txt: no such dictionary; name the dict.txt" in capsys.readouterr().err
    expected = fairseqs_scores(network, dictionary, TEXTS, dictionary.eos())
    assert run_with("rescore", *as_arguments(**options, lm_dict=tmp_path / "words.txt"), "--lower") == 0
    best = max(range(len(TEXTS)), key=lambda index: expected[index])
    assert read_trn(tmp_path / "out" / "hyp.trn") == {"u": TEXTS[best].upper()}


def test_refusals(tmp_path: Path) -> None:
    path, _, _ = write_lm(tmp_path, {})
    with pytest.raises(InputError, match="no checkpoint of fairseq, and only those take a dictionary"):
        load_language_model(tmp_path, dictionary=tmp_path / "dict.txt")
    (tmp_path / "other.txt").write_text("the 1\n")
    with pytest.raises(InputError, match=r"lm\.pt: its tensors do not fit its settings and a dictionary of 5 symbols"):
        load_language_model(path, tmp_path / "other.txt")
    (tmp_path / "other.txt").write_text("the\n")
    with pytest.raises(InputError, match=r"other\.txt: expected lines of symbol, space, count"):
        load_language_model(path, tmp_path / "other.txt")
    (tmp_path / "bad.pt").write_bytes(b"no")
    with pytest.raises(InputError, match=r"bad\.pt: not a readable fairseq checkpoint"):
        load_language_model(tmp_path / "bad.pt")


def test_another_models_checkpoint_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="holds model 'wav2vec_ctc' of task 'audio_finetuning', expected a transforme"):
        load_language_model(checkpoint)


@pytest.mark.parametrize("old", [False, True])
def test_code_in_the_settings_is_not_run(tmp_path: Path, old: bool) -> None:
    witness = tmp_path / "ran"
    path, _, _ = write_lm(tmp_path, ADAPTIVE, old=old)
    state = torch.load(path, weights_only=True)
    code = f"__import__('pathlib').Path({str(witness)!r}).touch() or [5, 8]"
    for name in ("adaptive_softmax_cutoff", "adaptive_input_cutoff", "character_filters"):
        settings = vars(state["args"]) if old else state["cfg"]["model"]
        kept, settings[name] = settings.get(name), code
        with pytest.raises(InputError, match=f"{name}: expected numbers, found"):
            load_language_model(save(state, tmp_path / "evil.pt"), tmp_path / "dict.txt")
        settings[name] = kept
    assert not witness.exists()
