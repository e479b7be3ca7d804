"""What an n-gram model is a model of, seen from its vocabulary: words, letters, pieces; in which case they are written.

KenLM scores what it does not know as <unk>, without a word: a model of words in place of one of letters, or a lexicon
in another case, makes transcripts worse than none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from ccc_w2v.errors import InputError

# Share of the search's units that a fitting model knows: letters and pieces nearly all, of a lexicon's words some.
SYMBOLS_KNOWN, WORDS_KNOWN = 0.5, 0.1
_ARPA_HEAD = 4096  # bytes in which an ARPA file says \data\


def refuse_unfit_symbols(path: str, symbols: Collection[str], boundary: str) -> None:
    """Raise InputError for a model that is not one of ``symbols``, which a search without a lexicon asks it for.

    ``boundary`` is "|" where the symbols are letters: a model of words knows single letters as words, but not that.
    """
    known = _known(path, symbols, [boundary])
    letters = boundary in symbols
    if len(known & set(symbols)) >= SYMBOLS_KNOWN * len(symbols) and (not letters or boundary in known):
        return
    _refuse_case(path, symbols, known, "symbols of the model")
    raise InputError(
        f"{path}: knows {len(known & set(symbols))} of the {len(symbols)} symbols of the model"
        f"{'' if boundary in known or not letters else f' and not {boundary!r}, the end of a word'}: it is no model of "
        "them, perhaps one of words; give the --lexicon of its words, or train one with ccc-w2v train-lm "
        f"{'--letters' if letters else '--sentencepiece'}"
    )


def refuse_unfit_words(path: str, words: Collection[str], lexicon: str) -> None:
    """Raise InputError for a model that knows hardly any word of a lexicon, with the remedy where it is their case."""
    known = _known(path, words)
    if len(known & set(words)) >= WORDS_KNOWN * len(words):
        return
    _refuse_case(path, words, known, f"words of {lexicon}")
    raise InputError(
        f"{path}: knows {len(known & set(words))} of the {len(words)} words of {lexicon}: they do not belong together; "
        "take the words that the language model was trained on as lexicon"
    )


def _refuse_case(path: str, units: Collection[str], known: Collection[str], what: str) -> None:
    for case, change in (("lower", str.lower), ("upper", str.upper)):
        changed = {change(unit) for unit in units} - set(units)
        if changed and len(changed & set(known)) >= SYMBOLS_KNOWN * len(changed):
            raise InputError(
                f"{path}: knows the {what} in {case} case only: train it on text in their case, or give others"
            )


def _known(path: str, units: Collection[str], more: Collection[str] = ()) -> set[str]:
    """Return which units, in any case, are in a model's vocabulary; raises InputError where KenLM cannot read it."""
    asked = {form for unit in (*units, *more) for form in (unit, unit.lower(), unit.upper())}
    if _is_arpa(path):
        return asked & set(_unigrams(path))
    try:
        import kenlm
    except ImportError as error:
        raise InputError(f"{path}: a binary language model is read with kenlm: pip install 'ccc-w2v[lm]'") from error
    settings = kenlm.Config()
    settings.load_method = kenlm.LoadMethod.LAZY
    settings.show_progress = False
    try:
        model = kenlm.Model(path, settings)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: KenLM cannot read it ({' '.join(str(error).split()):.200})") from error
    return {unit for unit in asked if unit in model}


def _is_arpa(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return b"\\data\\" in file.read(_ARPA_HEAD)


def _unigrams(path: str | Path) -> Iterator[str]:
    """Yield the words of an ARPA file's 1-grams."""
    inside = False
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("\\"):
                if inside:
                    return
                inside = line.startswith("\\1-grams:")
            elif inside and (fields := line.split()):
                yield fields[1] if len(fields) > 1 else ""
