from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import AutoTokenizer, Wav2Vec2Processor

from ccc_w2v.checkpoint.from_huggingface import import_huggingface
from ccc_w2v.checkpoint.huggingface_tokenizer import piece_tokenizer, read_symbols
from ccc_w2v.decode.greedy import greedy, to_words
from ccc_w2v.errors import InputError
from ccc_w2v.export.huggingface import export_huggingface
from tests.export.conftest import finetuned_state
from tests.tiny_pieces import TEXTS, pieces_of, train_pieces


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def trained(request, tmp_path_factory) -> Path:
    return train_pieces(tmp_path_factory.mktemp("pieces"), request.param)


def state_of(pieces: list[str]) -> dict:
    state = finetuned_state(letters=pieces)
    state["cfg"]["criterion"]["post_process"] = "sentencepiece"
    return state


def test_pieces_become_a_processor_that_cuts_and_reads_as_sentencepiece_and_fairseq(
    trained, save, recordings, tmp_path
):
    pieces = pieces_of(trained)
    export_huggingface(save(state_of(pieces)), tmp_path / "out", recordings[:1], sentencepiece=trained)
    processor = Wav2Vec2Processor.from_pretrained(tmp_path / "out", local_files_only=True)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(trained))
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    for text in [*TEXTS, "  A  STRANGE   SENTENCE ", "UNSEEN WORDS"]:
        assert processor.tokenizer.tokenize(text) == reference.encode(text, out_type=str)
        ids = processor.tokenizer(text).input_ids
        assert [symbols[index] for index in ids] == reference.encode(text, out_type=str)
    generator = torch.Generator().manual_seed(0)
    allowed = torch.tensor([0, *range(4, len(symbols))])
    for _ in range(20):
        ids = allowed[torch.randint(len(allowed), (60,), generator=generator).repeat_interleave(2)]
        logits_TV = torch.nn.functional.one_hot(ids, len(symbols)).float()
        expected = to_words(greedy(logits_TV, blank=0), symbols, "sentencepiece")
        assert processor.batch_decode(ids[None])[0].split() == expected
    imported, _ = import_huggingface(tmp_path / "out", recordings[:1])
    assert imported.plain["ccc_dictionary"]["symbols"] == symbols
    assert imported.plain["cfg"]["criterion"]["post_process"] == "sentencepiece"


def test_sentencepiece_model_that_does_not_fit_is_refused(trained, save, recordings, tmp_path):
    pieces = pieces_of(trained)
    with pytest.raises(InputError, match="--sentencepiece"):
        export_huggingface(save(state_of(pieces)), tmp_path / "out", recordings[:1])
    with pytest.raises(InputError, match="does not fit the dictionary, only one of them has 'Q'"):
        export_huggingface(save(state_of([*pieces, "Q"])), tmp_path / "out", recordings[:1], sentencepiece=trained)
    damaged = tmp_path / "damaged.model"
    damaged.write_bytes(trained.read_bytes()[:100])
    for path, message in ((damaged, "not a sentencepiece model"), (tmp_path / "none", "no such sentencepiece")):
        with pytest.raises(InputError, match=message):
            piece_tokenizer(["<s>", "<pad>", "</s>", "<unk>", *pieces], path)
    assert not (tmp_path / "out").exists()


class Tokens:
    """A CTC tokenizer's vocabulary as transformers' own fine-tuning scripts write it: special tokens at the end."""

    pad_token_id, unk_token_id, bos_token_id, eos_token_id = 4, 3, 5, 6

    def get_vocab(self):
        return {"|": 0, "B": 1, "A": 2, "[UNK]": 3, "[PAD]": 4, "<s>": 5, "</s>": 6}


def test_vocabulary_in_another_order_is_put_into_fairseqs():
    assert read_symbols(Tokens(), 7) == (["<s>", "<pad>", "</s>", "<unk>", "|", "B", "A"], [4, 5, 6, 3, 0, 1, 2])


@pytest.mark.parametrize(("outputs", "message"), [(5, "none is <s>, </s>"), (8, "7 entries.*8 outputs")])
def test_vocabulary_that_does_not_fit_is_refused(outputs, message):
    with pytest.raises(InputError, match=message):
        read_symbols(Tokens(), outputs)


def test_letters_read_back_from_a_folder(save, recordings, tmp_path):
    export_huggingface(save(finetuned_state()), tmp_path / "out", recordings[:1])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    state = finetuned_state()
    symbols = state["task_state"]["target_dictionary"].symbols
    assert read_symbols(tokenizer, len(symbols)) == (symbols, list(range(len(symbols))))
