"""The dictionary of a fine-tuned model -> a transformers tokenizer, of letters or of sentencepiece's pieces, and back.

transformers calls the CTC blank <pad>, fairseq <s>; the two trade names, as in all published wav2vec2 tokenizers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.checkpoint.huggingface_config import BLANK
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError

WORD_DELIMITER = "|"
WORD_START = "\u2581"  # sentencepiece's mark of a word's first piece
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_TRADED = {"<s>": "<pad>", "<pad>": "<s>"}
_SAMPLE_TEXTS, _SAMPLE_PIECES = 200, 12


def letter_tokenizer(folder: Path, symbols: list[str]) -> Any:
    """Write vocab.json into ``folder`` and return the tokenizer over it; raises InputError without a word boundary."""
    from transformers import Wav2Vec2CTCTokenizer

    if WORD_DELIMITER not in symbols:
        raise InputError(
            f"the dictionary has no {WORD_DELIMITER!r}: only letter dictionaries with that word boundary can become a "
            "transformers tokenizer"
        )
    path = folder / "vocab.json"
    path.write_text(json.dumps(_vocabulary(symbols), ensure_ascii=False, indent=2), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(
        str(path), word_delimiter_token=WORD_DELIMITER, clean_up_tokenization_spaces=False, do_lower_case=False
    )
    _check_text(tokenizer, symbols, "".join(symbols[len(SPECIAL) :]).replace(WORD_DELIMITER, " "))
    return tokenizer


def piece_tokenizer(symbols: list[str], model_file: str | Path | None) -> Any:
    """Return a tokenizer over sentencepiece's pieces, which cuts text as the model in ``model_file`` does.

    Raises InputError for a model that is missing, unreadable or of other pieces than the dictionary, and where the two
    cut a text differently.
    """
    from transformers import PreTrainedTokenizerFast

    if model_file is None:
        raise InputError("the labels are sentencepiece's pieces: give the .model that cut them with --sentencepiece")
    processor, proto = _read_sentencepiece(Path(model_file))
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == piece.NORMAL}
    pieces = symbols[len(SPECIAL) :]
    unfit = sorted(scores.keys() ^ set(pieces))
    if unfit:
        raise InputError(
            f"{model_file}: does not fit the dictionary, only one of them has {', '.join(map(repr, unfit[:5]))}"
            f"{' ...' if len(unfit) > 5 else ''}"
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_backend(proto, symbols, scores),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    _check_text(tokenizer, symbols, "".join(pieces).replace(WORD_START, " "))
    _check_cuts(tokenizer, processor, pieces)
    return tokenizer


def read_symbols(tokenizer: Any, outputs: int) -> tuple[list[str], list[int]]:
    """Return fairseq's symbols of a transformers CTC tokenizer and, for each, its output in the transformers model.

    Raises InputError where the tokenizer's entries and the model's ``outputs`` are not the same set, or where one of
    the four special tokens is missing.
    """
    named = {
        "<s>": tokenizer.pad_token_id,
        "<pad>": tokenizer.bos_token_id,
        "</s>": tokenizer.eos_token_id,
        "<unk>": tokenizer.unk_token_id,
    }
    missing = [_TRADED.get(name, name) for name, index in named.items() if index is None or index >= outputs]
    if missing:
        raise InputError(
            f"the tokenizer does not fit: of the model's {outputs} outputs none is {', '.join(missing)}, "
            "and fairseq's dictionaries begin with these"
        )
    token_of = {index: token for token, index in tokenizer.get_vocab().items()}
    others = sorted(token_of.keys() - set(named.values()))
    order = [*named.values(), *others]
    if sorted(order) != list(range(outputs)):
        raise InputError(
            f"the tokenizer does not fit: it has {len(order)} entries up to index {max(order)}, "
            f"the model has {outputs} outputs"
        )
    return [*named, *(token_of[index] for index in others)], order


def _vocabulary(symbols: list[str]) -> dict[str, int]:
    return {_TRADED.get(symbol, symbol): index for index, symbol in enumerate(symbols)}


def _read_sentencepiece(path: Path) -> tuple[Any, Any]:
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    if not path.is_file():
        raise InputError(f"{path}: no such sentencepiece model")
    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        proto = vars(sentencepiece_model_pb2)["ModelProto"].FromString(path.read_bytes())
    except Exception as error:  # a C++ RuntimeError or protobuf's own DecodeError
        raise InputError(f"{path}: not a sentencepiece model ({error})") from error
    return processor, proto


def _backend(proto: Any, symbols: list[str], scores: dict[str, float]) -> Any:
    """Return sentencepiece's normalisation, cutting and joining as the tokenizers library runs them."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    vocabulary = _vocabulary(symbols)
    kind = proto.trainer_spec.model_type
    if kind == proto.trainer_spec.UNIGRAM:
        # Special symbols are never cut from text: a score far below all others keeps them out of every path.
        lowest = min(scores.values()) - 100.0
        scored = [(name, scores.get(name, lowest)) for name in vocabulary]
        model: Any = models.Unigram(scored, unk_id=vocabulary["<unk>"], byte_fallback=False)
    elif kind == proto.trainer_spec.BPE:
        model = models.BPE(vocabulary, _merges(scores), unk_token="<unk>", fuse_unk=True)
    else:
        raise InputError("only sentencepiece models of type unigram and bpe can become a transformers tokenizer")
    tokenizer = tokenizers.Tokenizer(model)
    steps = [normalizers.Replace(tokenizers.Regex(" {2,}"), " "), normalizers.Strip()]
    if proto.normalizer_spec.precompiled_charsmap:
        steps.insert(0, normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD_START, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.CTC(pad_token="<pad>", word_delimiter_token=WORD_START, cleanup=False),
            decoders.Replace(WORD_START, " "),
            decoders.Fuse(),
            decoders.Strip(" ", len(symbols), len(symbols)),
        ]
    )
    return tokenizer


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Return the merges of a BPE model in the order of their results' scores: sentencepiece keeps the results only."""
    merges = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                merges.append((-score, -max(scores[left], scores[right]), left, right))
    return [(left, right) for *_, left, right in sorted(merges)]


def _check_text(tokenizer: Any, symbols: list[str], expected: str) -> None:
    """Every ordinary symbol, doubled and separated by blanks, must come back as fairseq reads it: ``expected``."""
    assert tokenizer.pad_token_id == BLANK
    ids = [index for symbol in range(len(SPECIAL), len(symbols)) for index in (symbol, symbol, BLANK)]
    text = tokenizer.batch_decode([ids])[0]
    if text != expected.strip():
        raise InputError(f"transformers' tokenizer reads the dictionary's symbols as {text!r}, expected {expected!r}")


def _check_cuts(tokenizer: Any, processor: Any, pieces: list[str]) -> None:
    generator = generator_for(0, "sample texts")
    for _ in range(_SAMPLE_TEXTS):
        drawn = torch.randint(len(pieces), (_SAMPLE_PIECES,), generator=generator).tolist()
        text = processor.decode([pieces[index] for index in drawn])
        expected, tokenized = processor.encode(text, out_type=str), tokenizer.tokenize(text)
        if tokenized != expected:
            raise InputError(f"transformers' tokenizer cuts {text!r} into {tokenized}, sentencepiece into {expected}")
