"""Beam search with an n-gram language model: flashlight-text's decoder.

Not through torchaudio's ctc_decoder, which drops the acoustic and the language model's score, numbers the symbols for
KenLM in another order than the model does, and reads the lexicon and the model again for every pair of weights.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.compat import flashlight_text
from ccc_w2v.data.labels_check import SPECIAL
from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.greedy import path_symbols, timed_words
from ccc_w2v.decode.hypothesis import Hypothesis, Search
from ccc_w2v.decode.lexicon import read_lexicon
from ccc_w2v.decode.lm_vocabulary import refuse_unfit_symbols, refuse_unfit_words
from ccc_w2v.decode.search_pool import usable_cores
from ccc_w2v.errors import InputError

# Hypotheses that score so much less than the best are dropped; fairseq and torchaudio use the same number.
BEAM_THRESHOLD = 50
FILES = {"lm": "language model", "lexicon": "lexicon", "sentencepiece": "sentencepiece model"}
UNKNOWN = "<unk>"  # flashlight's name for what no lexicon holds


@dataclass(frozen=True)
class BeamSettings:
    """How wide to search, and what a language model says in it.

    ``lm`` is an ARPA file or KenLM binary: of words where a ``lexicon`` is given, else of the model's symbols.
    ``lexicon`` holds a word a line, with its spelling in the model's symbols after it; words alone are spelt by their
    letters, or by the ``sentencepiece`` model where the symbols are pieces.
    """

    beam: int
    nbest: int = 1
    lm: str | None = None
    lexicon: str | None = None
    lm_weight: float = 2.0
    word_score: float = 0.0
    sentencepiece: str | None = None


def settings_from(options: argparse.Namespace) -> BeamSettings | None:
    """Pick the settings out of a command's options, None where they ask for no beam search.

    Raises InputError for settings of a beam search without a beam, and for files that are missing.
    """
    named = {field.name: getattr(options, field.name, None) for field in fields(BeamSettings)}
    settings = {name: value for name, value in named.items() if value is not None}
    if settings and "beam" not in settings:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in settings)
        raise InputError(f"{names}: only beam search uses this; give --beam too, 50 for instance")
    for name, what in FILES.items():
        if name in settings and not Path(settings[name]).is_file():
            raise InputError(f"{settings[name]}: no such {what}")
    return BeamSettings(**settings) if settings else None


def search_processes(asked: int | None, settings: BeamSettings | None) -> int:
    """Return in how many processes to search: as many as asked for, else one for each core; none without a beam."""
    if settings is None:
        return 0
    return usable_cores() if asked is None else asked


@dataclass(frozen=True)
class Knowledge:
    """What a search knows beside its weights: the model's symbols, a language model, and the lexicon or none.

    The lexicon comes as flashlight's tree of spellings, as its numbers of words, and as the texts that a word's
    spellings make.
    """

    model: CtcModel
    language_model: Any
    tree: Any
    words: Any
    spoken: dict[str, tuple[str, ...]]


def load_knowledge(model: CtcModel, settings: BeamSettings) -> Knowledge:
    """Load the lexicon and the language model of the settings, which takes time that their weights do not.

    Raises InputError for a lexicon or language model that is unreadable, for a language model of other units than the
    search's (see lm_vocabulary.py), and where no decoder is installed.
    """
    flashlight = flashlight_text()
    symbols = flashlight.Dictionary(list(model.labels))
    spellings = read_lexicon(settings.lexicon, model, settings.sentencepiece) if settings.lexicon else {}
    words = flashlight.create_word_dict({**spellings, UNKNOWN: []}) if settings.lexicon else symbols
    language_model = flashlight.ZeroLM()
    if settings.lm:
        try:
            with _silent_stderr():
                language_model = flashlight.KenLM(settings.lm, words)
        except RuntimeError as error:
            # KenLM says in which of its functions, then why.
            text = " ".join(str(error).split())
            reason = text.partition(" because ")[2] or text
            raise InputError(f"{settings.lm}: KenLM cannot read it ({reason:.200})") from error
        _refuse_unfit_lm(model, settings, spellings)
    if not settings.lexicon:
        return Knowledge(model, language_model, None, words, {})
    silence = _silence(model)
    tree = flashlight.Trie(len(model.labels), silence)
    start = language_model.start(False)
    for word, spelt in spellings.items():
        index = words.get_index(word)
        _, score = language_model.score(start, index)
        for spelling in spelt:
            indices = [symbols.get_index(symbol) for symbol in spelling]
            tree.insert(indices, index, score)
            # The decoder ends a word with the first frame of its last symbol, and then takes more of it for silence
            # alone. So that others too may last for several frames, a second spelling has them twice, see _hypothesis.
            if indices[-1] != silence:
                tree.insert([*indices, indices[-1]], index, score)
    # Within a word, the search reckons with the best score among the words that it may still become.
    tree.smear(flashlight.SmearingMode.MAX)
    spoken = {
        word: tuple("".join(spelling).replace(model.boundary, "") for spelling in spelt)
        for word, spelt in spellings.items()
    }
    return Knowledge(model, language_model, tree, words, spoken)


def _refuse_unfit_lm(model: CtcModel, settings: BeamSettings, spellings: Mapping[str, Any]) -> None:
    assert settings.lm is not None
    if settings.lexicon:
        refuse_unfit_words(settings.lm, spellings, settings.lexicon)
        return
    symbols = [label for label in model.labels if label != model.labels[model.blank] and label not in SPECIAL]
    refuse_unfit_symbols(settings.lm, symbols, model.boundary)


def search_with(knowledge: Knowledge, settings: BeamSettings) -> Search:
    """Return the search with the settings' beam and weights; its paths are scored by their best alignment (Viterbi).

    Raises InputError for settings that do not fit.
    """
    if settings.beam < 1 or not 1 <= settings.nbest <= settings.beam:
        raise InputError(f"a beam of {settings.beam} with {settings.nbest} best; expected 1 <= best <= beam")
    if settings.word_score and not settings.lexicon:
        raise InputError("a word score needs a lexicon: without one the search knows no words")
    flashlight, model, language_model = flashlight_text(), knowledge.model, knowledge.language_model
    widths = {"beam_size": settings.beam, "beam_size_token": len(model.labels), "beam_threshold": BEAM_THRESHOLD}
    scores = {"lm_weight": settings.lm_weight, "sil_score": 0.0}
    kind = {"log_add": False, "criterion_type": flashlight.CriterionType.CTC}
    silence = _silence(model)
    no_transitions: list[float] = []
    if knowledge.tree is None:
        options = flashlight.LexiconFreeDecoderOptions(**widths, **scores, **kind)
        decoder = flashlight.LexiconFreeDecoder(options, language_model, silence, model.blank, no_transitions)
    else:
        words = {"word_score": settings.word_score, "unk_score": -math.inf}
        options = flashlight.LexiconDecoderOptions(**widths, **scores, **words, **kind)
        decoder = flashlight.LexiconDecoder(
            options,
            knowledge.tree,
            language_model,
            silence,
            model.blank,
            knowledge.words.get_index(UNKNOWN),
            no_transitions,
            False,  # the language model is of words, not of symbols
        )

    def search(log_probs_TV: torch.Tensor) -> list[Hypothesis]:
        log_probs_TV = log_probs_TV.contiguous()
        results = decoder.decode(log_probs_TV.data_ptr(), *log_probs_TV.shape)
        # flashlight's decoder does not keep its language model alive: naming ``knowledge`` here does.
        read = (_hypothesis(result, log_probs_TV, knowledge) for result in results)
        hypotheses = list(
            itertools.islice((hypothesis for hypothesis in read if hypothesis is not None), settings.nbest)
        )
        # In a few frames no path may come to a word's end.
        return hypotheses or [_as_heard(result, log_probs_TV, model) for result in results[: settings.nbest]]

    return search


def beam_search(model: CtcModel, settings: BeamSettings) -> Search:
    """Return the search for the model; raises InputError as load_knowledge and search_with do."""
    return search_with(load_knowledge(model, settings), settings)


def _silence(model: CtcModel) -> int:
    return model.labels.index("|" if model.post_process == "letter" else "</s>")


def _as_heard(result: Any, log_probs_TV: torch.Tensor, model: CtcModel) -> Hypothesis:
    """Return a hypothesis with the words that its path spells."""
    # One place before and one after the frames stand for the silence around them.
    path_T = torch.tensor(result.tokens[1:-1])
    words = timed_words(path_symbols(path_T, log_probs_TV, model.blank), model)
    return Hypothesis(words, result.emittingModelScore, result.lmScore, result.score)


def _hypothesis(result: Any, log_probs_TV: torch.Tensor, knowledge: Knowledge) -> Hypothesis | None:
    """Return a hypothesis with the lexicon's words; None where its path spells others.

    The second spelling of a word also lets pass what is its last symbol twice, with a blank between: another word.
    """
    heard = _as_heard(result, log_probs_TV, knowledge.model)
    if knowledge.tree is None:
        return heard
    names = [knowledge.words.get_entry(index) for index in result.words if index >= 0]
    if len(names) != len(heard.words):
        return None
    if any(word.text not in knowledge.spoken[name] for name, word in zip(names, heard.words, strict=True)):
        return None
    words = [replace(word, text=name) for name, word in zip(names, heard.words, strict=True)]
    return replace(heard, words=words)


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
