"""A transformers folder -> a plain fairseq state, found equal by its outputs before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.checkpoint import parity
from ccc_w2v.checkpoint.from_fairseq import Imported
from ccc_w2v.checkpoint.huggingface_config import fairseq_settings
from ccc_w2v.checkpoint.huggingface_model import read_samples
from ccc_w2v.checkpoint.huggingface_tensors import gather
from ccc_w2v.checkpoint.huggingface_tokenizer import WORD_DELIMITER, WORD_START, read_symbols
from ccc_w2v.checkpoint.plain import load_plain, to_plain
from ccc_w2v.errors import InputError

# Published fine-tuned folders lack it: only training with masks uses it, where a zero vector is as good a start as any.
_MASK_EMBEDDING = "wav2vec2.masked_spec_embed"
PRETRAINED, FINETUNED = "Wav2Vec2ForPreTraining", "Wav2Vec2ForCTC"


def import_huggingface(
    folder: str | Path, sample_audio: Sequence[str | Path] | None
) -> tuple[Imported, parity.OutputDifference]:
    """Read a folder of Wav2Vec2ForPreTraining or Wav2Vec2ForCTC; returns the plain state and the largest difference.

    ``sample_audio``: recordings to compare the outputs on. Nothing is fetched and no code of the folder is run.

    Raises InputError for another model, weights that are unreadable or incomplete, settings or tensors that fairseq
    cannot express, a tokenizer that does not fit, and outputs that differ.
    """
    folder = Path(folder)
    finetuned = _is_finetuned(folder)
    model, extractor, lacking = _load(folder, finetuned)
    try:
        cfg = fairseq_settings(
            model.config,
            finetuned=finetuned,
            normalize=bool(extractor.do_normalize),
            sample_rate=int(extractor.sampling_rate),
        )
        state: dict[str, Any] = {"cfg": cfg}
        if finetuned:
            state["task_state"] = {"target_dictionary": _dictionary(folder, model, cfg)}
        state["model"] = gather(model, finetuned)
        plain = to_plain(state)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    kind = f"transformers folder, {FINETUNED if finetuned else PRETRAINED}"
    plain["ccc_export"]["imported_from"] = f"{folder.name}, {kind}"
    fairseq_model, _ = load_plain(plain, folder)
    waves = [
        parity.normalized(wave, extractor.do_normalize)
        for wave in read_samples(sample_audio, model.config, extractor.sampling_rate)
    ]
    difference = parity.largest_difference(fairseq_model, model, waves)
    parity.check(difference)
    return Imported(plain, kind, lacking=lacking), difference


def _is_finetuned(folder: Path) -> bool:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, architectures = config.get("model_type"), config.get("architectures") or []
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no config.json in it; expected a folder that transformers wrote") from error
    except (AttributeError, ValueError) as error:
        raise InputError(f"{path}: not a transformers configuration ({error})") from error
    if kind != "wav2vec2" or len(architectures) != 1 or architectures[0] not in (PRETRAINED, FINETUNED):
        raise InputError(
            f"{path}: holds {' '.join(map(str, architectures)) or 'no architecture'} of type {kind!r}, expected "
            f"{PRETRAINED} or {FINETUNED} of type 'wav2vec2'; an encoder alone has no codebook for further pre-training"
        )
    return architectures[0] == FINETUNED


def _load(folder: Path, finetuned: bool) -> tuple[Any, Any, list[str]]:
    """Return the model, its feature extractor and the tensors that the folder lacks, which are zero in the model."""
    import transformers

    model_class = getattr(transformers, FINETUNED if finetuned else PRETRAINED)
    try:
        model, info = model_class.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, weights_only=True, dtype=torch.float32
        )
        extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers, safetensors and torch each raise classes of their own
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: transformers cannot load it ({type(error).__name__}: {reason:.200})") from error
    lacking = sorted(info["missing_keys"])
    tolerated = lacking if finetuned and lacking == [_MASK_EMBEDDING] else []
    lost = sorted([*lacking, *info["unexpected_keys"], *map(str, info["mismatched_keys"])])
    if lost != tolerated:
        raise InputError(f"{folder}: tensors missing, left over or of another shape: {', '.join(lost[:8])}")
    if tolerated:
        with torch.no_grad():
            model.wav2vec2.masked_spec_embed.zero_()
    return model.eval(), extractor, tolerated


def _dictionary(folder: Path, model: Any, cfg: dict[str, Any]) -> Any:
    """Return fairseq's Dictionary; the output layer's rows are put into its order in place."""
    from fairseq.data.dictionary import Dictionary
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        raise InputError(f"its tokenizer cannot be loaded ({type(error).__name__}: {error})") from error
    if model.config.pad_token_id != tokenizer.pad_token_id:
        raise InputError(
            f"the CTC blank is not certain: pad_token_id is {model.config.pad_token_id} in config.json, "
            f"{tokenizer.pad_token_id} in the tokenizer"
        )
    symbols, order = read_symbols(tokenizer, model.config.vocab_size)
    pieces = any(symbol.startswith(WORD_START) for symbol in symbols)
    if not pieces and WORD_DELIMITER not in symbols:
        raise InputError(f"its tokenizer has neither {WORD_DELIMITER!r} nor pieces that begin with {WORD_START!r}")
    cfg["criterion"]["post_process"] = "sentencepiece" if pieces else "letter"
    cfg["task"]["labels"] = "bpe" if pieces else "ltr"
    dictionary = Dictionary()
    for symbol in symbols[dictionary.nspecial :]:
        dictionary.add_symbol(symbol)
    with torch.no_grad():
        for tensor in model.lm_head.parameters():
            tensor.copy_(tensor[order].clone())
    return dictionary
