"""Transcripts beside a manifest, in the formats of fairseq's audio_finetuning task: .wrd, .ltr and dict.ltr.txt.

One line for each line of the manifest: the words, or their letters with "|" behind each word. A dictionary holds a
symbol and its count in each line; the place of a symbol is its output in the model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ccc_w2v.files import write_whole

WORD_END = "|"
# A token in brackets ([NOISE]) is one symbol.
_SYMBOL = re.compile(r"\[[A-Z-]+\]|\S")


def letters(words: str) -> str:
    """Return fairseq's letter form: "HELLO WORLD" -> "H E L L O | W O R L D |"."""
    return " ".join(_SYMBOL.findall(words.replace(" ", WORD_END) + WORD_END))


def write_labels(manifest: str | Path, transcripts: Sequence[str]) -> None:
    """Write .wrd and .ltr beside a manifest (its path, .tsv included), one transcript for each of its lines."""
    path = Path(manifest)
    write_whole(path.with_suffix(".wrd"), "".join(f"{words}\n" for words in transcripts))
    write_whole(path.with_suffix(".ltr"), "".join(f"{letters(words)}\n" for words in transcripts))


def ranked_letters(training: Iterable[str], held_out: Iterable[str] = ()) -> list[tuple[str, int]]:
    """Return the letters of transcripts with their counts in ``training``: "|" first, then the most frequent.

    A letter that only ``held_out`` has keeps its place in the dictionary, with no count.
    """
    counts = Counter(letter for words in training for letter in letters(words).split())
    others = {letter for words in held_out for letter in letters(words).split()}
    ranked = sorted(others | set(counts), key=lambda letter: (letter != WORD_END, -counts[letter], letter))
    return [(letter, counts[letter]) for letter in ranked]


def write_dictionary(path: str | Path, counts: Iterable[tuple[str, int]]) -> None:
    """Write a fairseq dictionary of (symbol, count) pairs in their order; the file appears whole or not at all."""
    write_whole(path, "".join(f"{symbol} {count}\n" for symbol, count in counts))
