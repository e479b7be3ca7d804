"""Causal language models and what they say of a text; those of transformers.

Letters in shapes: B texts, L tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.errors import InputError

# Log-probabilities held at once, 256 MB of them: a vocabulary of words makes long lists large.
MAX_OUTPUTS = 1 << 26


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in eval mode, the tokens of a text, and the tokens around them.

    ``predict`` turns tokens (B, L) and which of them are real (B, L) into the log-probabilities (B, L, V) of what
    comes next. ``most``: tokens that it can read at once, None for any number.
    """

    network: Any
    encode: Callable[[str], list[int]]
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    begin: int
    end: int | None
    pad: int
    vocabulary: int
    most: int | None


def load_transformers_lm(folder: str | Path) -> LanguageModel:
    """Load a causal language model from a folder that transformers wrote; nothing is fetched, no code of it is run.

    Where the tokenizer has no token that begins a text, as GPT-2's, the one that ends a text stands before it. Raises
    InputError for a folder that is no such model, and for a tokenizer with neither token.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (Path(folder) / "config.json").is_file():
        raise InputError(
            f"{folder}: no config.json in it; expected a folder of a causal model that transformers wrote, or a "
            "checkpoint file of fairseq's transformer_lm"
        )
    try:
        network = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, weights_only=True, dtype=torch.float32
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers, tokenizers, safetensors and torch each raise classes of their own
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: transformers cannot load it ({type(error).__name__}: {reason:.200})") from error
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if begin is None:
        raise InputError(f"{folder}: its tokenizer has no token that begins or ends a text; the first word needs one")

    def predict(tokens_BL: torch.Tensor, real_BL: torch.Tensor) -> torch.Tensor:
        return network(tokens_BL, attention_mask=real_BL.long()).logits.float().log_softmax(dim=-1)

    return LanguageModel(
        network,
        lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        predict,
        begin,
        tokenizer.eos_token_id,
        pad=0,
        vocabulary=network.config.vocab_size,
        most=getattr(network.config, "max_position_embeddings", None),
    )


def log_probabilities(model: LanguageModel, texts: Sequence[str]) -> list[float]:
    """Return each text's log-probability (natural logarithm), its end included where the model knows one.

    Raises InputError for a text that is longer than the model can read.
    """
    ends = [] if model.end is None else [model.end]
    encoded = [torch.tensor([model.begin, *model.encode(text), *ends]) for text in texts]
    longest = max(len(tokens_L) for tokens_L in encoded)
    # The last token is predicted, not read.
    if model.most is not None and longest - 1 > model.most:
        raise InputError(
            f"a hypothesis of {longest - 1} tokens; the language model reads at most {model.most} at once: decode "
            "shorter recordings, or use a model of longer context"
        )
    size = max(1, MAX_OUTPUTS // (longest * model.vocabulary))
    return [
        score for start in range(0, len(encoded), size) for score in _log_probabilities(model, encoded[start:][:size])
    ]


def _log_probabilities(model: LanguageModel, encoded: Sequence[torch.Tensor]) -> list[float]:
    tokens_BL = torch.nn.utils.rnn.pad_sequence(list(encoded), batch_first=True, padding_value=model.pad)
    lengths_B = torch.tensor([len(tokens_L) for tokens_L in encoded])
    real_BL = torch.arange(tokens_BL.shape[1]) < lengths_B[:, None]
    device = next(model.network.parameters()).device
    with torch.inference_mode():
        log_probs_BLV = model.predict(tokens_BL[:, :-1].to(device), real_BL[:, :-1].to(device)).float().cpu()
    chosen_BL = log_probs_BLV.gather(2, tokens_BL[:, 1:, None])[..., 0]
    return torch.where(real_BL[:, 1:], chosen_BL, 0.0).sum(dim=1).tolist()
