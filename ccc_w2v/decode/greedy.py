"""Greedy decoding: from log-probabilities to words with their times. T frames, V symbols of the dictionary."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from fairseq.data.data_utils import post_process as fairseq_post_process

from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.hypothesis import Hypothesis, Search, Symbol, Word


def greedy_search(model: CtcModel) -> Search:
    """Return the search that takes the best symbol of each frame."""

    def search(log_probs_TV: torch.Tensor) -> list[Hypothesis]:
        score = float(log_probs_TV.amax(dim=-1).sum())
        return [Hypothesis(timed_words(best_path(log_probs_TV, model.blank), model), score, 0.0, score)]

    return search


def best_path(log_probs_TV: torch.Tensor, blank: int) -> list[Symbol]:
    """Return the best symbol of every frame, repeats collapsed, then blanks dropped."""
    return path_symbols(log_probs_TV.argmax(dim=-1), log_probs_TV, blank)


def path_symbols(path_T: torch.Tensor, log_probs_TV: torch.Tensor, blank: int) -> list[Symbol]:
    """Return the symbols along a path (one index a frame), repeats collapsed, then blanks dropped."""
    indices, counts = path_T.unique_consecutive(return_counts=True)
    log_probs_T = log_probs_TV.gather(1, path_T[:, None])[:, 0].tolist()
    symbols, start = [], 0
    for index, count in zip(indices.tolist(), counts.tolist(), strict=True):
        if index != blank:
            log_prob = sum(log_probs_T[start : start + count]) / count
            symbols.append(Symbol(index, start, start + count - 1, log_prob))
        start += count
    return symbols


def greedy(log_probs_TV: torch.Tensor, blank: int) -> list[int]:
    """Return the symbols of best_path alone."""
    return [symbol.index for symbol in best_path(log_probs_TV, blank)]


def to_words(ids: Sequence[int], labels: Sequence[str], post_process: str = "letter") -> list[str]:
    """Join symbols to words by fairseq's rules: "|" ends a word (letter), "▁" begins one (sentencepiece).

    As in fairseq, <s> and </s> are left out and <unk> and <pad> are spelt as they are.
    """
    symbols = " ".join(labels[index] for index in ids if labels[index] not in ("<s>", "</s>"))
    return fairseq_post_process(symbols, post_process).split()


def timed_words(symbols: Sequence[Symbol], model: CtcModel) -> list[Word]:
    """Return the words of to_words with the time from their first to their last symbol's frames.

    A CTC network may emit a symbol late or early within its sound: times are good to about a tenth of a second. The
    confidence is the geometric mean of the probabilities of the word's symbols.
    """
    words: list[list[Symbol]] = [[]]
    texts = [""]
    for symbol in symbols:
        label = model.labels[symbol.index]
        if label in ("<s>", "</s>"):
            continue
        for position, part in enumerate(label.split(model.boundary)):
            if position:
                words.append([])
                texts.append("")
            if part:
                words[-1].append(symbol)
                texts[-1] += part
    second = model.frame_samples / model.sample_rate
    return [
        Word(
            text,
            start=symbols[0].first * second,
            duration=(symbols[-1].last + 1 - symbols[0].first) * second,
            confidence=min(1.0, math.exp(sum(symbol.log_prob for symbol in symbols) / len(symbols))),
        )
        for text, symbols in zip(texts, words, strict=True)
        if text
    ]
