"""Rescoring against transformers' own loss, and the tool's outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ccc_w2v.cli.main import main
from ccc_w2v.data.trn import read_trn
from ccc_w2v.errors import InputError
from ccc_w2v.lm.causal import LanguageModel, log_probabilities
from ccc_w2v.lm.rescore import load_language_model, read_nbest, rescore
from tests.run_tool import run_tool, run_with

WORDS = ["<end>", "<unk>", "the", "cat", "sat", "mat", "on"]
TEXTS = ["the cat sat on the mat", "cat", "", "the mat sat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GPT-2 over whole words, as transformers saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", unk_token="<unk>")
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("lm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_language_model(folder)


def test_is_transformers_loss_alone_and_beside_longer_texts(model: LanguageModel) -> None:
    together = log_probabilities(model, TEXTS)
    for text, score in zip(TEXTS, together, strict=True):
        tokens_1L = torch.tensor([[0, *(WORDS.index(word) for word in text.split()), 0]])
        with torch.inference_mode():
            loss = model.network(tokens_1L, labels=tokens_1L).loss
        assert score == pytest.approx(-float(loss) * (tokens_1L.shape[1] - 1), rel=1e-5)
        assert log_probabilities(model, [text]) == pytest.approx([score], rel=1e-5)


def entry(text: str, total: float) -> dict:
    return {"text": text, "acoustic": total, "lm": 0.0, "total": total}


def test_the_weighted_sum_ranks(model: LanguageModel) -> None:
    scores = dict(zip(TEXTS, log_probabilities(model, TEXTS), strict=True))
    nbest = {"u": [entry("THE CAT SAT ON THE MAT", -1.0), entry("CAT", -2.0)]}
    (first, second) = rescore(model, nbest, 0.5, lower=True)["u"]
    assert (first["text"], second["text"]) == ("CAT", "THE CAT SAT ON THE MAT")
    assert first["neural"] == pytest.approx(scores["cat"], rel=1e-5)
    assert first["total"] == pytest.approx(-2.0 + 0.5 * scores["cat"], rel=1e-5)
    assert [hypothesis["text"] for hypothesis in rescore(model, nbest, 0.0)["u"]] == ["THE CAT SAT ON THE MAT", "CAT"]


def test_shares_merge_to_the_rescoring_of_one_call(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "decoded" / "nbest.jsonl"
    source.parent.mkdir()
    lines = [{"id": f"u{n}", "nbest": [entry(text, -1.0), entry("mat", -1.5)]} for n, text in enumerate(TEXTS)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source.with_name("ref.trn").write_text("".join(f"cat ({line['id']})\n" for line in lines))
    words = ["rescore", "--nbest", str(source), "--lm", str(folder), "--out"]
    assert main([*words, str(tmp_path / "straight")]) == 0
    expected = capsys.readouterr().out
    out = tmp_path / "merged"
    for number in (2, 3):
        assert main([*words, str(out), "--shard", f"{number}/3"]) == 0
    capsys.readouterr()
    assert main(["merge", str(out)]) == 2
    assert "1 of 3 shards are not finished: 1" in capsys.readouterr().err
    assert main([*words, str(out), "--shard", "1/3", "--weight", "2"]) == 0
    assert main(["merge", str(out)]) == 2
    assert "does not belong to 1-of-3: it differs in weight" in capsys.readouterr().err
    assert main([*words, str(out), "--shard", "1/3", "--overwrite"]) == 0
    assert not out.exists()
    capsys.readouterr()
    assert main(["merge", str(out)]) == 0
    assert capsys.readouterr().out == expected.replace("straight", "merged")
    names = ["hyp.trn", "nbest.jsonl", "ref.trn", "rescoring.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name
    lost = tmp_path / "merged.shards/2-of-3/nbest.jsonl"
    lost.write_text("".join(lost.read_text().splitlines(keepends=True)[1:]))
    assert main(["merge", str(out)]) == 2
    assert "utterances that are not the 4 of" in capsys.readouterr().err
    source.write_text(source.read_text().replace("-1.5", "-1.25"))
    assert main(["merge", str(out)]) == 2
    assert "are not the lists that the shards were made of" in capsys.readouterr().err


def test_tool_writes_texts_and_lists(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"id": "u1", "nbest": [entry("the cat sat on the mat", -1.0), entry("cat", -2.0)]}]
    lines.append({"id": "u2", "nbest": [entry("", -1.0)]})
    (tmp_path / "nbest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {"nbest": tmp_path / "nbest.jsonl", "lm": folder, "out": tmp_path / "out", "weight": 0.5}
    assert run_tool("rescore", **options) == 0
    assert read_trn(tmp_path / "out" / "hyp.trn") == {"u1": "cat", "u2": ""}
    assert "2 utterances, 1 of them with another text than before" in capsys.readouterr().out
    # What it writes it reads, and a weight of 0 changes nothing more.
    again = {**options, "nbest": tmp_path / "out" / "nbest.jsonl", "out": tmp_path / "again", "weight": 0}
    assert run_tool("rescore", **again) == 0
    assert (tmp_path / "again" / "hyp.trn").read_bytes() == (tmp_path / "out" / "hyp.trn").read_bytes()


def test_refusals(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--nbest", tmp_path / "none", "--lm", folder, "--out", tmp_path / "out"]
    assert run_with("rescore", *arguments) == 2
    assert "none: no such n-best file; write one with ccc-w2v decode" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for content, message in (
        ("", "holds no utterance"),
        ("x\n", r"nbest:1: not a line of ccc-w2v decode --nbest"),
        ('{"id": "a", "nbest": [{"text": "A"}]}\n', "nbest:1: not a line of"),
        ('{"id": "a", "nbest": []}\n', "nbest:1: utterance 'a' is listed twice or empty"),
    ):
        (tmp_path / "nbest").write_text(content)
        with pytest.raises(InputError, match=message):
            read_nbest(tmp_path / "nbest")
    with pytest.raises(InputError, match=r"no config\.json in it"):
        load_language_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_language_model(tmp_path)
