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
    parser.add_argument("--labels-dir", help="folder of dict.<labels>.txt, for a checkpoint that lacks its dictionary")
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
        help="its precision on a GPU; on a CPU it is float32, where half precision is slower",
    )
    parser.add_argument("--batch-seconds", type=float, default=250, help="audio in a batch, padding included [s]")
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
        help="what two windows share; each gives up half of it, where its frames lack context (default 8)",
    )


def add_beam_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what a beam search needs and return the group; the names are those of BeamSettings."""
    beam = parser.add_argument_group("beam search", "greedy without --beam")
    beam.add_argument("--beam", type=int, help="hypotheses kept at each frame")
    beam.add_argument("--lm", help="n-gram model (ARPA, KenLM binary): of words with --lexicon, else of symbols")
    beam.add_argument("--lexicon", help="lines of a word and its spelling; words alone are spelt")
    beam.add_argument("--sentencepiece", metavar="MODEL", help="spells the lexicon's words where symbols are pieces")
    beam.add_argument(
        "--search-processes",
        type=int,
        metavar="N",
        help="search in N processes beside the network (default: as many as cores; 0: in turns with it)",
    )
    return beam
