"""Decode a manifest, into OUT/hyp.trn and OUT/hyp.ctm (and OUT/ref.trn if <split>.wrd exists).

    ccc-w2v decode --checkpoint finetuned/checkpoint_best.pt --manifest data/test.tsv --out decoded/test
    ccc-w2v decode --checkpoint finetuned --average-last 5 --manifest data/test.tsv --out decoded/average
    ccc-w2v decode --checkpoint transformers-folder --dtype bfloat16 --manifest data/test.tsv --out decoded/hf
    ccc-w2v decode --checkpoint ... --manifest ... --out ... --beam 50 --lm words.arpa --lexicon words.txt

An interrupted decoding resumes with the same command. Score it with ccc-w2v score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ccc_w2v.cli.options import command_parser


def arguments() -> argparse.Namespace:
    from ccc_w2v.decode.options import add_beam_options, add_model_options
    from ccc_w2v.run_folder import add_overwrite_option
    from ccc_w2v.sharding import add_shard_option

    parser = command_parser(__doc__)
    add_model_options(parser)
    parser.add_argument("--manifest", required=True, help=".tsv manifest of the audio to decode")
    parser.add_argument("--out", required=True, type=Path, help="folder for hyp.trn, hyp.ctm and ref.trn")
    parser.add_argument(
        "--logits", action="store_true", help="also write OUT/logits/<id>.npy: log-probabilities (T, V)"
    )
    add_shard_option(parser)
    add_overwrite_option(parser)
    beam = add_beam_options(parser)
    beam.add_argument("--nbest", type=int, help="also write the N best hypotheses with their scores to OUT/nbest.jsonl")
    beam.add_argument("--lm-weight", type=float, help="weight of the language model (default 2)")
    beam.add_argument("--word-score", type=float, help="score added per word of the lexicon (default 0)")
    return parser.parse_args()


def decode(options: argparse.Namespace) -> None:
    from ccc_w2v.cli.shares import lines_of_shard

    with lines_of_shard(options, "decode") as own:
        decode_lines(own)


def decode_lines(options: argparse.Namespace) -> None:
    from ccc_w2v.decode.beam import beam_search, search_processes
    from ccc_w2v.decode.load import prepare_decoding
    from ccc_w2v.decode.transcribe import DecodingOptions, decode_into, decoding_identity

    prepared = prepare_decoding(options)
    model, manifest, settings = prepared.model, prepared.manifest, prepared.settings
    result = decode_into(
        options.out,
        model,
        manifest,
        decoding_identity(model, prepared.files, manifest, settings),
        DecodingOptions(
            search=beam_search(model, settings) if settings else None,
            search_processes=search_processes(options.search_processes, settings),
            max_samples=prepared.max_samples,
            windows=prepared.windows,
            logits=options.logits,
            nbest=options.nbest is not None,
        ),
        overwrite=options.overwrite,
        names={"checkpoint files": ", ".join(map(str, prepared.files)), "manifest file": options.manifest},
    )
    if result is None:
        print(f"{options.out / 'hyp.trn'}: {len(manifest)} utterances, decoded before with the same settings")
        return
    print(f"{options.out / 'hyp.trn'}: {len(manifest)} utterances, {result.resumed} of them from an earlier run")
    if result.audio_seconds:
        factor = result.wall_seconds / result.audio_seconds
        print(f"{result.audio_seconds:.1f} s of audio in {result.wall_seconds:.1f} s on {options.device}")
        print(f"real-time factor {factor:.4f} (reading included, loading the model excluded)")


def main() -> int:
    options = arguments()
    from ccc_w2v.errors import exit_on_input_error

    return exit_on_input_error(decode)(options)
