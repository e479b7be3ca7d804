"""Beam search with an n-gram language model: flashlight-text's decoder, through torchaudio."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.compat import beam_search_builder
from ccc_w2v.errors import InputError
from ccc_w2v.evaluate.ctc_model import CtcModel
from ccc_w2v.evaluate.decode import Hypothesis, Search, path_symbols, timed_words
from ccc_w2v.evaluate.search_pool import usable_cores


@dataclass(frozen=True)
class BeamSettings:
    """How wide to search, and what a language model says in it.

    ``lm`` is an ARPA file or KenLM binary: of words where a ``lexicon`` is given, else of the model's symbols.
    ``lexicon`` holds a word a line, with its spelling in the model's symbols after it; letters may be left out.
    """

    beam: int
    nbest: int = 1
    lm: str | None = None
    lexicon: str | None = None
    lm_weight: float = 2.0
    word_score: float = 0.0


def settings_from(options: Mapping[str, Any]) -> BeamSettings | None:
    """Pick the settings out of a command's options, None where they ask for no beam search.

    Raises InputError for settings of a beam search without a beam, and for files that are missing.
    """
    given = {field.name: options[field.name] for field in fields(BeamSettings) if options[field.name] is not None}
    if given and "beam" not in given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{names}: only beam search uses this; give --beam too, 50 for instance")
    for name, what in (("lm", "language model"), ("lexicon", "lexicon")):
        if name in given and not Path(given[name]).is_file():
            raise InputError(f"{given[name]}: no such {what}")
    return BeamSettings(**given) if given else None


def search_processes(options: Mapping[str, Any], settings: BeamSettings | None) -> int:
    """Return in how many processes to search: as many as asked for, else one for each core; none without a beam."""
    asked = options["search_processes"]
    if settings is None:
        return 0
    return usable_cores() if asked is None else asked


def beam_search(model: CtcModel, settings: BeamSettings) -> Search:
    """Return the search for the model; its paths are scored by their best alignment (Viterbi).

    Raises InputError for settings that do not fit, a lexicon or language model that is unreadable, and where no decoder
    is installed.
    """
    if settings.beam < 1 or not 1 <= settings.nbest <= settings.beam:
        raise InputError(f"a beam of {settings.beam} with {settings.nbest} best; expected 1 <= best <= beam")
    if settings.word_score and not settings.lexicon:
        raise InputError("a word score needs a lexicon: without one the search knows no words")
    builder = beam_search_builder()
    lines = _spelt_lexicon(settings.lexicon, model) if settings.lexicon else list(model.labels)
    with _temporary_file(lines) as path, _silent_stderr():
        try:
            decoder = builder(
                lexicon=path if settings.lexicon else None,
                # Left to itself, torchaudio numbers the symbols for KenLM in another order than the model does.
                lm_dict=None if settings.lexicon else path,
                tokens=list(model.labels),
                lm=settings.lm,
                nbest=settings.nbest,
                beam_size=settings.beam,
                lm_weight=settings.lm_weight,
                word_score=settings.word_score,
                blank_token=model.labels[model.blank],
                sil_token="|" if model.post_process == "letter" else "</s>",
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{settings.lm}: KenLM cannot read it ({reason:.200})") from error

    def search(log_probs_TV: torch.Tensor) -> list[Hypothesis]:
        log_probs_TV = log_probs_TV.contiguous()
        # torchaudio's own call drops the acoustic and language model scores.
        results = decoder.decoder.decode(log_probs_TV.data_ptr(), *log_probs_TV.shape)
        return [_hypothesis(result, log_probs_TV, model) for result in results[: settings.nbest]]

    return search


def _hypothesis(result: Any, log_probs_TV: torch.Tensor, model: CtcModel) -> Hypothesis:
    # One place before and one after the frames stand for the silence around them.
    path_T = torch.tensor(result.tokens[1:-1])
    words = timed_words(path_symbols(path_T, log_probs_TV, model.blank), model)
    return Hypothesis(words, result.emittingModelScore, result.lmScore, result.score)


def _spelt_lexicon(path: str, model: CtcModel) -> list[str]:
    """Return the lexicon's lines, each word spelt."""
    lines = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        word, *spelling = line.split() or [""]
        if not word:
            continue
        if not spelling and model.post_process == "letter":
            spelling = [*word, "|"]
        unknown = [symbol for symbol in spelling if symbol not in model.labels]
        if unknown or not spelling:
            found = f"the unknown symbol {unknown[0]!r}" if unknown else "no spelling"
            raise InputError(
                f"{path}:{number}: {word!r} has {found}; expected symbols of the model: "
                f"{' '.join(model.labels[4:12])} ..."
            )
        lines.append(f"{word} {' '.join(spelling)}")
    if not lines:
        raise InputError(f"{path}: holds no word; expected lines of word and spelling")
    return lines


@contextmanager
def _temporary_file(lines: Sequence[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        yield str(path)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep KenLM's progress out of the way, which it writes below Python: a page of dots for each model."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
