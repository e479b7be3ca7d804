"""n-best lists scored again by a neural language model: any causal model of transformers.

Letters in shapes: B texts, L tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ccc_w2v.errors import InputError

SCORES = ("acoustic", "lm", "total")


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in eval mode with its tokenizer and the tokens that begin and end a text."""

    network: Any
    tokenizer: Any
    begin: int
    end: int | None


def load_language_model(folder: str | Path) -> LanguageModel:
    """Load a causal language model from a folder that transformers wrote; nothing is fetched, no code of it is run.

    Where the tokenizer has no token that begins a text, as GPT-2's, the one that ends a text stands before it. Raises
    InputError for a folder that is no such model, and for a tokenizer with neither token.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"{folder}: no config.json in it; expected a folder of a causal model that transformers wrote")
    try:
        network = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, weights_only=True, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers, tokenizers, safetensors and torch each raise classes of their own
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: transformers cannot load it ({type(error).__name__}: {reason:.200})") from error
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if begin is None:
        raise InputError(f"{folder}: its tokenizer has no token that begins or ends a text; the first word needs one")
    return LanguageModel(network.eval(), tokenizer, begin, tokenizer.eos_token_id)


def log_probabilities(model: LanguageModel, texts: Sequence[str]) -> list[float]:
    """Return each text's log-probability (natural logarithm), its end included where the tokenizer has one."""
    ends = [] if model.end is None else [model.end]
    encoded = [
        torch.tensor([model.begin, *model.tokenizer(text, add_special_tokens=False)["input_ids"], *ends])
        for text in texts
    ]
    tokens_BL = torch.nn.utils.rnn.pad_sequence(encoded, batch_first=True)
    lengths_B = torch.tensor([len(tokens_L) for tokens_L in encoded])
    real_BL = torch.arange(tokens_BL.shape[1]) < lengths_B[:, None]
    device = next(model.network.parameters()).device
    with torch.inference_mode():
        logits_BLV = model.network(tokens_BL.to(device), attention_mask=real_BL.long().to(device)).logits
    log_probs_BLV = logits_BLV.float().log_softmax(dim=-1).cpu()
    chosen_BL = log_probs_BLV[:, :-1].gather(2, tokens_BL[:, 1:, None])[..., 0]
    return torch.where(real_BL[:, 1:], chosen_BL, 0.0).sum(dim=1).tolist()


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
