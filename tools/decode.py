#!/usr/bin/env python3
"""Decode a manifest greedily, into OUT/hyp.trn and OUT/hyp.ctm (and OUT/ref.trn where <split>.wrd exists).

    python tools/decode.py --checkpoint finetuned/checkpoint_best.pt --manifest data/test.tsv --out decoded/test
    python tools/decode.py --checkpoint finetuned --average-last 5 --manifest data/test.tsv --out decoded/average
    python tools/decode.py --checkpoint transformers-folder --dtype bfloat16 --manifest data/test.tsv --out decoded/hf

A decoding that was stopped continues when the same command runs again. Score it with tools/score.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="fine-tuned wav2vec_ctc checkpoint of fairseq, or a folder of Wav2Vec2ForCTC of transformers",
    )
    parser.add_argument("--manifest", required=True, help=".tsv manifest of the audio to decode")
    parser.add_argument("--out", required=True, type=Path, help="folder for hyp.trn, hyp.ctm and ref.trn")
    parser.add_argument("--labels-dir", help="folder of dict.<labels>.txt, for a checkpoint that lacks its dictionary")
    parser.add_argument(
        "--average-last",
        type=int,
        default=0,
        metavar="N",
        help="average the last N checkpoints of --checkpoint's folder",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="its precision")
    parser.add_argument("--batch-seconds", type=float, default=250, help="audio in a batch, padding included [s]")
    parser.add_argument(
        "--logits", action="store_true", help="also write OUT/logits/<id>.npy: log-probabilities (T, V)"
    )
    return parser.parse_args()


def decode(options: argparse.Namespace) -> None:
    import torch

    from ccc_w2v.data.manifest import first_recordings, read_manifest
    from ccc_w2v.errors import InputError
    from ccc_w2v.evaluate.ctc_model import checkpoint_files, load_ctc
    from ccc_w2v.evaluate.transcribe import decoding_identity, transcribe, write_ctm
    from ccc_w2v.evaluate.wer import read_references, utterance_ids, write_trn

    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU; use --device cpu")
    if options.average_last < 0 or options.batch_seconds <= 0:
        raise InputError("--average-last and --batch-seconds: expected positive numbers")
    manifest = read_manifest(options.manifest)
    ids, references = utterance_ids(manifest), read_references(manifest)
    files = checkpoint_files(options.checkpoint, options.average_last)
    model = load_ctc(
        options.checkpoint,
        options.labels_dir,
        average_last=options.average_last,
        sample_audio=first_recordings(options.manifest),
    )
    model.network.to(options.device, getattr(torch, options.dtype))

    options.out.mkdir(parents=True, exist_ok=True)
    logits_dir = options.out / "logits" if options.logits else None
    identity = decoding_identity(model, files, manifest)
    if logits_dir:
        logits_dir.mkdir(exist_ok=True)
        identity["logits"] = "written"
    journal = options.out / "hyp.partial.jsonl"
    max_samples = int(options.batch_seconds * model.sample_rate)
    result = transcribe(model, manifest, journal, identity, max_samples=max_samples, logits_dir=logits_dir)
    if references is not None:
        write_trn(options.out / "ref.trn", dict(zip(ids, references, strict=True)))
    write_ctm(options.out / "hyp.ctm", result.words)
    write_trn(options.out / "hyp.trn", result.texts)
    journal.unlink()

    print(f"{options.out / 'hyp.trn'}: {len(ids)} utterances, {result.resumed} of them from an earlier run")
    if result.audio_seconds:
        factor = result.wall_seconds / result.audio_seconds
        print(f"{result.audio_seconds:.1f} s of audio in {result.wall_seconds:.1f} s on {options.device}")
        print(f"real-time factor {factor:.4f} (reading included, loading the model excluded)")


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error

    return exit_on_input_error(decode)(options)


if __name__ == "__main__":
    sys.exit(main())
