"""Options that several command lines share; imports nothing that takes time, so that --help comes at once."""

from __future__ import annotations

import argparse


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what names the network and says how it runs."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="fine-tuned wav2vec_ctc checkpoint of fairseq, or a folder of Wav2Vec2ForCTC of transformers",
    )
    parser.add_argument("--labels-dir", help="folder of dict.<labels>.txt, for a checkpoint without its dictionary")
    parser.add_argument(
        "--average-last",
        type=int,
        default=0,
        metavar="N",
        help="average the last N checkpoints of --checkpoint's folder",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="precision on a GPU; on a CPU float32 is used, since half precision is slower there",
    )
    parser.add_argument("--batch-seconds", type=float, default=250, help="audio per batch, including padding [s]")
    parser.add_argument(
        "--window",
        type=float,
        default=60,
        metavar="SECONDS",
        help="longer recordings are decoded in overlapping windows of this length (default 60; 0: whole)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=8,
        metavar="SECONDS",
        help="overlap of two windows; each discards half of it, where its frames lack context (default 8)",
    )


def add_beam_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what a beam search needs and return the group; the names are those of BeamSettings."""
    beam = parser.add_argument_group("beam search", "without --beam, decoding is greedy")
    beam.add_argument("--beam", type=int, help="hypotheses kept at each frame")
    beam.add_argument("--lm", help="n-gram model (ARPA, KenLM binary): of words with --lexicon, else of symbols")
    beam.add_argument("--lexicon", help="one word per line with its spelling; a word alone is spelled by its letters")
    beam.add_argument(
        "--sentencepiece",
        metavar="MODEL",
        help="sentencepiece model that spells the lexicon's words, if the labels are pieces",
    )
    beam.add_argument(
        "--search-processes",
        type=int,
        metavar="N",
        help="search in N processes beside the network (default: one per core; 0: in the same process)",
    )
    return beam
