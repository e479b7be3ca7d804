"""A made-up language to measure beam search on: words, sentences, a 4-gram model, and what a network would hear.

A random network's outputs are noise, which a search prunes as it never does in use. What is made here is as peaked as a
fine-tuned network's: blanks between symbols, a symbol a frame, now and then a wrong one.

Letters in shapes: T frames, V symbols.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ccc_w2v.benchmark.random_ctc import LETTERS
from ccc_w2v.files import write_whole

WORDS, SENTENCES, SENTENCE_WORDS = 5000, 4000, 12
ORDER, DISCOUNT = 4, 0.5
FRAMES_A_SYMBOL = 3.4  # 15 letters a second, as in read speech
# Shares of symbols that the network mistakes, and how sure it is of anything.
MISTAKEN, SURE, UNSURE = 0.15, 9.0, 3.0


@dataclass(frozen=True)
class Language:
    """Sentences, and the files of its 4-gram model and its lexicon."""

    sentences: list[list[str]]
    lm: Path
    lexicon: Path


def invent(folder: Path, draw: np.random.Generator) -> Language:
    """Draw words and sentences in which each word has followers that it prefers; write words.arpa and words.txt."""
    letters = list(LETTERS.replace("|", "").replace("'", ""))
    rank = 1 / np.arange(1, len(letters) + 1)
    found: set[str] = set()
    while len(found) < WORDS:
        found.add("".join(draw.choice(letters, size=draw.integers(2, 11), p=rank / rank.sum())))
    words = sorted(found)
    draw.shuffle(words)
    frequency = 1 / np.arange(1, WORDS + 1)
    followers = draw.choice(WORDS, size=(WORDS, 20), p=frequency / frequency.sum())
    sentences = []
    for _ in range(SENTENCES):
        indices = [int(draw.integers(100))]
        while len(indices) < SENTENCE_WORDS:
            indices.append(int(followers[indices[-1], int(20 * draw.random() ** 2)]))
        sentences.append([words[index] for index in indices])
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in sorted(words)), encoding="utf-8")
    write_arpa(folder / "words.arpa", sentences, words, ORDER)
    return Language(sentences, folder / "words.arpa", folder / "words.txt")


def write_arpa(path: Path, sentences: Iterable[Sequence[str]], words: Sequence[str], order: int) -> None:
    """Count n-grams and write them as a model with absolute discounting and back-off; all ``words`` are in it.

    For measuring speed and for tests: real models are better made with ccc-w2v train-lm.
    """
    counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order)]
    counts[0].update((word,) for word in (*words, "<unk>"))
    for sentence in sentences:
        padded = ("<s>", *sentence, "</s>")
        for length in range(1, order + 1):
            counts[length - 1].update(padded[start : start + length] for start in range(len(padded) - length + 1))
    del counts[0][("<s>",)]  # never predicted
    probability = {gram: count / counts[0].total() for gram, count in counts[0].items()}
    back_off: dict[tuple[str, ...], float] = {}
    for level in counts[1:]:
        seen: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for gram in level:
            seen.setdefault(gram[:-1], []).append(gram)
        for context, grams in seen.items():
            total = sum(level[gram] for gram in grams)
            for gram in grams:
                probability[gram] = (level[gram] - DISCOUNT) / total
            left = 1 - sum(probability[gram[1:]] for gram in grams)
            back_off[context] = DISCOUNT * len(grams) / total / max(left, 1e-9)
    lines = ["\\data\\", *(f"ngram {length}={len(level) + (length == 1)}" for length, level in enumerate(counts, 1))]
    for length, level in enumerate(counts, 1):
        lines += ["", f"\\{length}-grams:"]
        if length == 1:
            lines.append(f"-99\t<s>\t{math.log10(back_off[('<s>',)]):.5f}")
        for gram in level:
            backed = f"\t{math.log10(back_off[gram]):.5f}" if gram in back_off else ""
            lines.append(f"{math.log10(probability[gram]):.5f}\t{' '.join(gram)}{backed}")
    write_whole(path, "\n".join([*lines, "", "\\end\\", ""]))


def heard(
    sentences: Sequence[Sequence[str]], frames: int, labels: Sequence[str], blank: int, draw: np.random.Generator
) -> tuple[str, torch.Tensor]:
    """Return a text of about so many frames, and log-probabilities (T, V) as a fine-tuned network gives for it."""
    words: list[str] = []
    while sum(len(word) + 1 for word in words) * FRAMES_A_SYMBOL < frames:
        words += sentences[int(draw.integers(len(sentences)))]
    while len(words) > 1 and sum(len(word) + 1 for word in words) * FRAMES_A_SYMBOL > frames:
        words.pop()
    symbols = [labels.index(letter) for word in words for letter in (*word, "|")][: frames // 2]
    logits_TV = draw.normal(size=(frames, len(labels)))
    places = 2 * np.sort(draw.choice(frames // 2, size=len(symbols), replace=False))
    quiet = np.ones(frames, dtype=bool)
    quiet[places] = False
    logits_TV[quiet, blank] += SURE
    for place, symbol in zip(places, symbols, strict=True):
        logits_TV[place, symbol] += SURE
        if draw.random() < MISTAKEN:
            logits_TV[place, symbol] -= SURE - UNSURE
            logits_TV[place, int(draw.integers(4, len(labels)))] += UNSURE + 1
    return " ".join(words), torch.from_numpy(logits_TV).float().log_softmax(dim=-1)
