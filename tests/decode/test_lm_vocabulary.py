"""Language models in place of others: words for letters, one case for the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccc_w2v.decode.lm_vocabulary import refuse_unfit_symbols, refuse_unfit_words
from ccc_w2v.errors import InputError

LETTERS = ["|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
WORDS = ["THE", "CAT", "SAT", "ON", "A", "MAT"]


def arpa(path: Path, units: list[str]) -> str:
    rows = "".join(f"-1.5\t{unit}\t-0.1\n" for unit in ["<unk>", "<s>", "</s>", *units])
    path.write_text(f"\\data\\\nngram 1={3 + len(units)}\n\n\\1-grams:\n{rows}\n\\2-grams:\n-1\tZZ YY\n\\end\\\n")
    return str(path)


def test_models_that_fit_pass(tmp_path: Path) -> None:
    refuse_unfit_symbols(arpa(tmp_path / "l", LETTERS), LETTERS, "|")
    refuse_unfit_symbols(arpa(tmp_path / "few", LETTERS[:20]), LETTERS, "|")  # small text has no Q
    pieces = ["\u2581THE", "\u2581A", "T", "\u2581"]
    refuse_unfit_symbols(arpa(tmp_path / "p", pieces), pieces, "\u2581")
    refuse_unfit_words(arpa(tmp_path / "w", WORDS), [*WORDS, "HAT"], "words.txt")


def test_a_model_of_words_without_a_lexicon_is_refused(tmp_path: Path) -> None:
    # LibriSpeech's vocabulary holds every letter as a word, but no end of a word.
    for units in (WORDS, [*WORDS, *LETTERS[1:]]):
        with pytest.raises(InputError, match=r"perhaps one of words; give the --lexicon .* ccc-w2v train-lm --letters"):
            refuse_unfit_symbols(arpa(tmp_path / "words.arpa", units), LETTERS, "|")
    with pytest.raises(InputError, match="knows 1 of the 3 symbols of the model: .* --sentencepiece"):
        refuse_unfit_symbols(arpa(tmp_path / "words.arpa", WORDS), ["\u2581THE", "\u2581CA", "A"], "\u2581")


def test_another_case_is_named(tmp_path: Path) -> None:
    lower = arpa(tmp_path / "lower", [word.lower() for word in WORDS])
    with pytest.raises(InputError, match=r"knows the words of words\.txt in lower case only"):
        refuse_unfit_words(lower, WORDS, "words.txt")
    with pytest.raises(InputError, match="in upper case only"):
        refuse_unfit_words(arpa(tmp_path / "upper", WORDS), [word.lower() for word in WORDS], "words.txt")
    with pytest.raises(InputError, match="knows the symbols of the model in lower case only"):
        refuse_unfit_symbols(arpa(tmp_path / "l", [letter.lower() for letter in LETTERS]), [*LETTERS, "É"], "|")
    with pytest.raises(InputError, match=r"knows 0 of the 6 words of words\.txt: they do not belong together"):
        refuse_unfit_words(arpa(tmp_path / "l", ["X", "Y"]), WORDS, "words.txt")


def test_a_binary_model_is_asked_as_well(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "bad.bin").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"bad\.bin: KenLM cannot read it"):
        refuse_unfit_words(str(tmp_path / "bad.bin"), WORDS, "words.txt")
