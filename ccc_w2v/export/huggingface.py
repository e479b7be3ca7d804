"""A checkpoint -> a transformers folder, written only after its outputs were found equal to fairseq's on real audio."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.compat import load_checkpoint
from ccc_w2v.data.audio import read_audio
from ccc_w2v.errors import InputError
from ccc_w2v.export import card, parity
from ccc_w2v.export.huggingface_config import BLANK, transformers_config
from ccc_w2v.export.huggingface_tensors import fill
from ccc_w2v.export.plain import load_plain, refuse_existing, to_plain

WORD_DELIMITER = "|"


def export_huggingface(
    checkpoint: str | Path,
    out_dir: str | Path,
    sample_audio: Sequence[str | Path] | None,
    *,
    scores: Sequence[card.Score] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write ``checkpoint`` as a folder that transformers loads; returns what was measured.

    A pre-trained model becomes Wav2Vec2ForPreTraining (Wav2Vec2Model loads it too), a fine-tuned one Wav2Vec2ForCTC
    with its tokenizer. ``sample_audio``: recordings at the task's sample rate to compare the outputs on; ``scores``:
    measured word error rates for the model card. The result holds ``difference`` and ``where`` (the largest difference
    from fairseq on the same input), ``as_used`` (the last output's through the folder's own feature extractor) and
    ``recordings``, their number.

    Raises InputError for a checkpoint that cannot be expressed, outputs that differ, audio that is missing or unfit,
    and a target that exists while ``overwrite`` is false. The folder appears whole or not at all.
    """
    out_dir = Path(out_dir)
    refuse_existing(out_dir, overwrite)
    if not sample_audio:
        raise InputError("no recording to compare the models on; give some with --audio or --manifest")
    plain = to_plain(load_checkpoint(checkpoint))
    fairseq_model, _ = load_plain(plain, checkpoint)
    model = _build(plain)
    task = plain["cfg"]["task"]
    raw_waves = [
        read_audio(path, task["sample_rate"], min_samples=_receptive_field(model.config)) for path in sample_audio
    ]
    waves = [parity.normalized(wave, task["normalize"]) for wave in raw_waves]
    difference = parity.largest_difference(fairseq_model, model, waves)
    parity.check(difference)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    try:
        _write_model(partial, model, plain)
        reference = parity.fairseq_outputs(fairseq_model, waves[0][None])
        as_used = _check_written(partial, type(model), reference, raw_waves[0], waves[0])
        report = {
            "difference": difference.value,
            "where": difference.where,
            "as_used": as_used,
            "recordings": len(waves),
        }
        text = card.model_card(plain, report, out_dir.name, scores)
        (partial / "README.md").write_text(text, encoding="utf-8")
        _publish(partial, out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _build(plain: dict[str, Any]) -> Any:
    try:
        from transformers import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining
    except ImportError as error:
        raise InputError(f"transformers cannot be imported ({error}); pip install transformers") from error
    symbols = plain.get("ccc_dictionary", {}).get("symbols", [])
    config = transformers_config(plain["cfg"], len(symbols))
    model = Wav2Vec2ForCTC(config) if symbols else Wav2Vec2ForPreTraining(config)
    fill(model, plain["model"], finetuned=bool(symbols))
    return model.eval()


def _receptive_field(config: Any) -> int:
    """Samples that the convolutions need to give one frame."""
    samples = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _write_model(folder: Path, model: Any, plain: dict[str, Any]) -> None:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=plain["cfg"]["task"]["sample_rate"],
        padding_value=0.0,
        do_normalize=bool(plain["cfg"]["task"]["normalize"]),
        # Group norm sees the padding anyway and was trained without a mask: transformers asks for none there.
        return_attention_mask=model.config.feat_extract_norm == "layer",
    )
    if "ccc_dictionary" in plain:
        tokenizer = _tokenizer(folder, plain["ccc_dictionary"]["symbols"])
        Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    # Also beside a processor, which from transformers 5 on holds it too: version 4 looks for this file alone.
    extractor.save_pretrained(folder)


def _tokenizer(folder: Path, symbols: list[str]) -> Any:
    from transformers import Wav2Vec2CTCTokenizer

    if WORD_DELIMITER not in symbols:
        raise InputError(
            f"the dictionary has no {WORD_DELIMITER!r}: only letter dictionaries with that word boundary can become a "
            "transformers tokenizer"
        )
    # transformers calls the CTC blank <pad>, fairseq <s>; they trade names, as in all published wav2vec2 tokenizers.
    names = {"<s>": "<pad>", "<pad>": "<s>"}
    vocabulary = {names.get(symbol, symbol): index for index, symbol in enumerate(symbols)}
    path = folder / "vocab.json"
    path.write_text(json.dumps(vocabulary, ensure_ascii=False, indent=2), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(
        str(path), word_delimiter_token=WORD_DELIMITER, clean_up_tokenization_spaces=False, do_lower_case=False
    )
    assert tokenizer.pad_token_id == BLANK
    _check_text(tokenizer, symbols)
    return tokenizer


def _check_text(tokenizer: Any, symbols: list[str]) -> None:
    """Every ordinary symbol, doubled and separated by blanks, must come back as fairseq's letters read."""
    first = symbols.index("<unk>") + 1
    ids = [index for symbol in range(first, len(symbols)) for index in (symbol, symbol, BLANK)]
    expected = "".join(symbols[first:]).replace(WORD_DELIMITER, " ").strip()
    text = tokenizer.batch_decode([ids])[0]
    if text != expected:
        raise InputError(f"transformers' tokenizer reads the dictionary's symbols as {text!r}, expected {expected!r}")


def _check_written(
    folder: Path, model_class: type, reference: dict[str, torch.Tensor], raw_wave: torch.Tensor, wave: torch.Tensor
) -> float:
    """Load the folder as a user would, offline; compare the last output, and return how it differs on raw audio.

    The two differ where the task normalises: transformers' feature extractor adds 1e-7 to the variance, fairseq 1e-5.
    """
    from transformers import Wav2Vec2FeatureExtractor

    model = model_class.from_pretrained(folder, local_files_only=True).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
    last = list(reference)[-1]
    reread = parity.transformers_outputs(model, wave[None])[last]
    parity.check(parity.Difference(parity.distance(reference[last], reread), f"{last} (folder read back)"))
    inputs = extractor(raw_wave.numpy(), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    used = parity.transformers_outputs(model, inputs["input_values"])[last]
    return parity.distance(reference[last], used)


def _publish(partial: Path, out_dir: Path) -> None:
    """Put the finished folder in place of ``out_dir``, which is moved aside first: a folder cannot be replaced."""
    old = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.old")
    if out_dir.exists():
        os.replace(out_dir, old)
    os.replace(partial, out_dir)
    shutil.rmtree(old, ignore_errors=True)
