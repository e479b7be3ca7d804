"""A checkpoint -> a transformers folder, written only after its outputs were found equal to fairseq's on real audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ccc_w2v.checkpoint import parity
from ccc_w2v.checkpoint.huggingface_model import build, read_samples
from ccc_w2v.checkpoint.huggingface_tokenizer import letter_tokenizer, piece_tokenizer
from ccc_w2v.checkpoint.plain import load_plain, to_plain
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.checkpoint.teacher import with_weights
from ccc_w2v.export import card
from ccc_w2v.files import refuse_existing, whole


def export_huggingface(
    checkpoint: str | Path,
    out_dir: str | Path,
    sample_audio: Sequence[str | Path] | None,
    *,
    notes: card.Notes | None = None,
    sentencepiece: str | Path | None = None,
    overwrite: bool = False,
    weights: str = "model",
) -> dict[str, Any]:
    """Write ``checkpoint`` as a folder that transformers loads; returns what was measured.

    A pre-trained model becomes Wav2Vec2ForPreTraining (Wav2Vec2Model loads it too), a fine-tuned one Wav2Vec2ForCTC
    with its tokenizer. ``sample_audio``: recordings at the task's sample rate to compare the outputs on; ``notes``:
    what the model card says beyond the checkpoint; ``sentencepiece``: the model that cut the labels into pieces, where
    they are pieces; ``weights``: which of the checkpoint's, "model" or "teacher". The result holds ``difference`` and
    ``where`` (the largest difference from fairseq on the same input), ``as_used`` (the last output's through the
    folder's own feature extractor) and ``recordings``, their number.

    Raises InputError for a checkpoint that cannot be expressed, outputs that differ, audio that is missing or unfit,
    and a target that exists while ``overwrite`` is false. The folder appears whole or not at all.
    """
    out_dir = Path(out_dir)
    refuse_existing(out_dir, overwrite)
    plain = to_plain(with_weights(load_checkpoint(checkpoint), weights))
    fairseq_model, _ = load_plain(plain, checkpoint)
    model = build(plain)
    task = plain["cfg"]["task"]
    raw_waves = read_samples(sample_audio, model.config, task["sample_rate"])
    waves = [parity.normalized(wave, task["normalize"]) for wave in raw_waves]
    difference = parity.largest_difference(fairseq_model, model, waves)
    parity.check(difference)
    reference = parity.fairseq_outputs(fairseq_model, waves[0][None])
    del fairseq_model
    with whole(out_dir, overwrite=overwrite) as partial:
        _write_model(partial, model, plain, sentencepiece)
        as_used = _check_written(partial, type(model), reference, raw_waves[0], waves[0])
        report = {
            "difference": difference.value,
            "where": difference.where,
            "as_used": as_used,
            "recordings": len(waves),
        }
        text = card.model_card(plain, report, (notes and notes.name) or out_dir.name, notes)
        (partial / "README.md").write_text(text, encoding="utf-8")
    return report


def _write_model(folder: Path, model: Any, plain: dict[str, Any], sentencepiece: str | Path | None) -> None:
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
        symbols = plain["ccc_dictionary"]["symbols"]
        pieces = plain["cfg"]["criterion"].get("post_process") == "sentencepiece"
        tokenizer = piece_tokenizer(symbols, sentencepiece) if pieces else letter_tokenizer(folder, symbols)
        Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    # Also beside a processor, which from transformers 5 on holds it too: version 4 looks for this file alone.
    extractor.save_pretrained(folder)


def _check_written(
    folder: Path, model_class: Any, reference: dict[str, torch.Tensor], raw_wave: torch.Tensor, wave: torch.Tensor
) -> float:
    """Load the folder as a user would, offline; compare the last output, and return how it differs on raw audio.

    The two differ where the task normalises: transformers' feature extractor adds 1e-7 to the variance, fairseq 1e-5.
    """
    from transformers import Wav2Vec2FeatureExtractor

    model = model_class.from_pretrained(folder, local_files_only=True).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)
    last = list(reference)[-1]
    reread = parity.transformers_outputs(model, wave[None])[last]
    parity.check(parity.OutputDifference(parity.distance(reference[last], reread), f"{last} (folder read back)"))
    inputs = extractor(raw_wave.numpy(), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    used = parity.transformers_outputs(model, inputs["input_values"])[last]
    return parity.distance(reference[last], used)
