"""Language models that fairseq trained: transformer_lm of the task language_modeling."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch
from fairseq import models
from fairseq.data.dictionary import Dictionary
from fairseq.tasks.language_modeling import LanguageModelingTask
from omegaconf import OmegaConf

from ccc_w2v.checkpoint.read import load_untrusted
from ccc_w2v.checkpoint.sizes import check_sizes
from ccc_w2v.compat import setting
from ccc_w2v.decode.lexicon import piece_splitter
from ccc_w2v.errors import InputError
from ccc_w2v.lm.causal import LanguageModel


def load_fairseq_lm(
    path: str | Path, dictionary: str | Path | None = None, sentencepiece: str | Path | None = None
) -> LanguageModel:
    """Load a checkpoint of fairseq's transformer_lm, of today's fairseq or of one that kept its settings as ``args``.

    ``dictionary`` is the dict.txt that it was trained with, by default the one beside it. Texts are words, or the
    pieces of a ``sentencepiece`` model; what the dictionary lacks is its <unk>.

    Raises InputError for a checkpoint that is unreadable or of another kind, for a dictionary or sentencepiece model
    that is missing or unreadable, and for tensors that do not fit them.
    """
    state = load_untrusted(path)
    settings, task_settings = _settings(state, path)
    words = _dictionary(Path(dictionary) if dictionary else Path(path).with_name("dict.txt"))
    try:
        task = LanguageModelingTask(task_settings, words)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # fairseq's use of torch: nothing a user can fix
            network = models.build_model(settings, task, from_checkpoint=True)
            network.load_state_dict(state["model"], strict=True)
    except Exception as error:  # whatever fairseq and torch make of settings that describe no model
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: its tensors do not fit its settings and a dictionary of {len(words)} symbols ({reason:.200})"
        ) from error
    network.eval().float()
    split = piece_splitter(sentencepiece) if sentencepiece else str.split

    def predict(tokens_BL: torch.Tensor, real_BL: torch.Tensor) -> torch.Tensor:
        return network.get_normalized_probs(network(tokens_BL), log_probs=True)

    return LanguageModel(
        network,
        lambda text: [words.index(token) for token in split(text)],
        predict,
        begin=words.bos() if getattr(task_settings, "add_bos_token", False) else words.eos(),
        end=words.eos(),
        pad=words.pad(),
        vocabulary=len(words),
        most=network.max_positions(),
    )


def _settings(state: dict[str, Any], path: str | Path) -> tuple[Any, Any]:
    """Return the settings of the model and of the task, once they are known to be of the right kind and size."""
    if isinstance(state.get("args"), argparse.Namespace):
        model = task = state["args"]
        kind, of = getattr(model, "arch", None), getattr(model, "task", None)
    else:
        cfg = OmegaConf.create(state.get("cfg") or {})
        model, task = setting(cfg, "model"), setting(cfg, "task")
        kind, of = setting(cfg, "model._name"), setting(cfg, "task._name")
    if of != "language_modeling" or not str(kind).startswith("transformer_lm"):
        raise InputError(f"{path}: holds model {kind!r} of task {of!r}, expected a transformer_lm of language_modeling")
    try:
        check_sizes(vars(model) if isinstance(model, argparse.Namespace) else model, state["model"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return model, task


def _dictionary(path: Path) -> Dictionary:
    if not path.is_file():
        raise InputError(f"{path}: no such dictionary; name the dict.txt that the language model was trained with")
    try:
        return Dictionary.load(str(path))
    except Exception as error:  # for an encoding, fairseq raises Exception itself
        raise InputError(f"{path}: expected lines of symbol, space, count ({error})") from error
