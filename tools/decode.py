#!/usr/bin/env python3
"""Decode a manifest greedily with a fine-tuned checkpoint, into OUT/hyp.trn (and OUT/ref.trn where <split>.wrd exists).

    python tools/decode.py --checkpoint finetuned/checkpoint_best.pt --manifest data/test.tsv --out decoded/test

A decoding that was stopped continues when the same command runs again. Score it with tools/score.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="fine-tuned wav2vec_ctc checkpoint of fairseq")
    parser.add_argument("--manifest", required=True, help=".tsv manifest of the audio to decode")
    parser.add_argument("--out", required=True, type=Path, help="folder for hyp.trn and ref.trn")
    parser.add_argument("--labels-dir", help="folder of dict.<labels>.txt, for a checkpoint that lacks its dictionary")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    return parser.parse_args()


def decode(options: argparse.Namespace) -> None:
    import torch

    from ccc_w2v.data.manifest import read_manifest
    from ccc_w2v.errors import InputError
    from ccc_w2v.evaluate.decode import decoding_identity, load_ctc, transcribe
    from ccc_w2v.evaluate.wer import read_references, utterance_ids, write_trn

    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU; use --device cpu")
    manifest = read_manifest(options.manifest)
    ids = utterance_ids(manifest)
    references = read_references(manifest)
    model = load_ctc(options.checkpoint, options.labels_dir)
    model.network.to(options.device)

    options.out.mkdir(parents=True, exist_ok=True)
    journal = options.out / "hyp.partial.jsonl"
    result = transcribe(model, manifest, journal, decoding_identity(model, options.checkpoint, manifest))
    if references is not None:
        write_trn(options.out / "ref.trn", dict(zip(ids, references, strict=True)))
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
