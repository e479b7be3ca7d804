"""Words and how they are spelt in a model's symbols: letters, or the pieces of a sentencepiece model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ccc_w2v.corpora.subwords import read_model
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.errors import InputError
from ccc_w2v.text_files import text_lines


def read_lexicon(
    path: str | Path, model: CtcModel, sentencepiece: str | Path | None = None
) -> dict[str, list[list[str]]]:
    """Return a lexicon's words in order, each with its spellings; see BeamSettings.

    Raises InputError for a word that has no spelling or one with a symbol that the model lacks, and for no word at all.
    """
    spell = _letters if sentencepiece is None else piece_splitter(sentencepiece)
    by_itself = sentencepiece is not None or model.post_process == "letter"
    spellings: dict[str, list[list[str]]] = {}
    for number, line in enumerate(text_lines(path, "lexicon", "lines of a word and its spelling"), start=1):
        word, *spelling = line.split() or [""]
        if not word:
            continue
        if not spelling and by_itself:
            spelling = spell(word)
        unknown = [symbol for symbol in spelling if symbol not in model.labels]
        if unknown or not spelling:
            problem = (
                f"the unknown symbol {unknown[0]!r}" if unknown else "no spelling (name the model's --sentencepiece)"
            )
            raise InputError(
                f"{path}:{number}: {word!r} has {problem}; expected symbols of the model: "
                f"{' '.join(model.labels[4:12])} ..."
            )
        spellings.setdefault(word, []).append(spelling)
    if not spellings:
        raise InputError(f"{path}: holds no word; expected lines of word and spelling")
    return spellings


def piece_splitter(path: str | Path) -> Callable[[str], list[str]]:
    """Return what splits a text into the pieces of a sentencepiece model; raises InputError where it is unreadable."""
    processor = read_model(path)
    return lambda text: processor.encode(text, out_type=str)


def _letters(word: str) -> list[str]:
    return [*word, "|"]
