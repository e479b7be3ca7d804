"""n-best lists scored again by a neural language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ccc_w2v.errors import InputError
from ccc_w2v.lm.causal import LanguageModel, load_transformers_lm, log_probabilities
from ccc_w2v.lm.fairseq import load_fairseq_lm

SCORES = ("acoustic", "lm", "total")


def load_language_model(
    path: str | Path, dictionary: str | Path | None = None, sentencepiece: str | Path | None = None
) -> LanguageModel:
    """Load a causal model from a folder of transformers, or a transformer_lm from a checkpoint file of fairseq.

    ``dictionary`` and ``sentencepiece`` are for fairseq's. Raises InputError as load_transformers_lm and
    load_fairseq_lm do.
    """
    if Path(path).is_file():
        return load_fairseq_lm(path, dictionary, sentencepiece)
    if dictionary or sentencepiece:
        raise InputError(f"{path}: no checkpoint of fairseq, and only those take a dictionary or pieces")
    return load_transformers_lm(path)


def read_nbest(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Read an nbest.jsonl of tools/decode.py; raises InputError for a missing file and for a line of another form."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such n-best file; write one with tools/decode.py --beam 50 --nbest 20")
    found: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            utterance = entry["id"]
            hypotheses = [
                {"text": str(each["text"]), **{name: float(each[name]) for name in SCORES}} for each in entry["nbest"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a line of tools/decode.py --nbest ({error!r})") from error
        if utterance in found or not hypotheses:
            raise InputError(f"{path}:{number}: utterance {utterance!r} comes twice or is empty; decode again")
        found[utterance] = hypotheses
    if not found:
        raise InputError(f"{path}: holds no utterance; decode again")
    return found


def rescore(
    model: LanguageModel, nbest: dict[str, list[dict[str, Any]]], weight: float, *, lower: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Add ``neural``, the model's log-probability, and ``weight`` times it to each total; best first.

    ``lower`` shows the model the texts in lower case. Texts with equal totals keep their order.
    """
    rescored = {}
    for utterance, hypotheses in tqdm(nbest.items(), unit="utt", desc="rescoring"):
        texts = [each["text"].lower() if lower else each["text"] for each in hypotheses]
        again = [
            {**each, "neural": score, "total": each["total"] + weight * score}
            for each, score in zip(hypotheses, log_probabilities(model, texts), strict=True)
        ]
        rescored[utterance] = sorted(again, key=lambda each: -each["total"])
    return rescored
