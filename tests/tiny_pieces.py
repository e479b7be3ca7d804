"""Tiny sentencepiece models, trained on the spot."""

from __future__ import annotations

from pathlib import Path

import sentencepiece

TEXTS = [
    "THE CAT SAT ON THE MAT",
    "THAT IS THE HAT THAT I SAT ON",
    "SHE SAID THIS WAS THE END OF THE LINE",
    "PRESS ONE TO CONTINUE OR TWO TO LEAVE A MESSAGE",
    "YOUR CALL IS VERY IMPORTANT TO US",
]


def train_pieces(folder: Path, model_type: str = "unigram") -> Path:
    """Train a model of 40 pieces on TEXTS; returns its path."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_prefix=str(folder / model_type),
        vocab_size=40,
        model_type=model_type,
        minloglevel=2,
    )
    return folder / f"{model_type}.model"


def pieces_of(model: Path) -> list[str]:
    """Return the pieces that stand for text."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids = [i for i in range(len(processor)) if not processor.is_control(i) and not processor.is_unknown(i)]
    return [processor.id_to_piece(index) for index in ids]
