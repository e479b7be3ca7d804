"""From waves to log-probabilities to words with their times; nothing depends on what else is in a batch.

Letters in shapes: B utterances, S samples, T frames, V symbols of the dictionary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from fairseq.data.data_utils import post_process as fairseq_post_process

from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.errors import InputError

MAX_BATCH_SAMPLES = 4_000_000  # 250 s at 16 kHz
# The most of a padded batch that may be padding.
MAX_PADDING = 0.2


def equal_length_batches(lengths: Sequence[int], max_samples: int = MAX_BATCH_SAMPLES) -> list[list[int]]:
    """Group positions of exactly equal length, longest first, at most ``max_samples`` samples together.

    No batch is padded: the base model's feature encoder normalises each channel over time (group norm), so padding
    would change every frame of the shorter utterances and a transcript would depend on its neighbours.
    """
    by_length: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        by_length.setdefault(length, []).append(position)
    batches = []
    for length in sorted(by_length, reverse=True):
        size = max(1, max_samples // length)
        same = by_length[length]
        batches += [same[start : start + size] for start in range(0, len(same), size)]
    return batches


def padded_batches(lengths: Sequence[int], max_samples: int = MAX_BATCH_SAMPLES) -> list[list[int]]:
    """Group positions of similar length, longest first, at most ``max_samples`` samples together, padding included.

    The shortest of a batch is at most MAX_PADDING shorter than its longest.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        longest = lengths[batches[-1][0]] if batches else 0
        fits = batches and (len(batches[-1]) + 1) * longest <= max_samples
        if fits and lengths[position] >= (1 - MAX_PADDING) * longest:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def batches_for(model: CtcModel, lengths: Sequence[int], max_samples: int = MAX_BATCH_SAMPLES) -> list[list[int]]:
    """Group positions as the model allows: padded, or of exactly equal length."""
    return (padded_batches if model.pads else equal_length_batches)(lengths, max_samples)


def emit(
    model: CtcModel,
    waves: Sequence[torch.Tensor],
    names: Sequence[str] | None = None,
    max_samples: int = MAX_BATCH_SAMPLES,
) -> list[torch.Tensor]:
    """Return log-probabilities (T, V) in float32 on the CPU for each wave (S,), whatever else is in ``waves``.

    The network runs in the precision of its parameters. Raises InputError where it gives NaN, with the utterance's name
    from ``names`` or else its position.
    """
    emissions: dict[int, torch.Tensor] = {}
    for batch in batches_for(model, [len(wave_S) for wave_S in waves], max_samples):
        called = [names[position] if names else f"wave {position}" for position in batch]
        together = emit_batch(model, [_prepared(model, waves[position]) for position in batch], called)
        emissions.update(zip(batch, together, strict=True))
    return [emissions[position] for position in range(len(waves))]


def emit_batch(model: CtcModel, waves: Sequence[torch.Tensor], names: Sequence[str]) -> list[torch.Tensor]:
    """Return log-probabilities (T, V) for each wave (S,) of one batch, normalised already where the model wants that.

    Raises InputError as emit does.
    """
    parameter = next(model.network.parameters())
    samples_B = torch.tensor([len(wave_S) for wave_S in waves])
    source_BS = torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
    padding_BS = torch.arange(source_BS.shape[1]) >= samples_B[:, None]
    with torch.inference_mode():
        output = model.network(
            source=source_BS.to(parameter),
            padding_mask=padding_BS.to(parameter.device) if padding_BS.any() else None,
        )
        # fairseq puts time first here.
        log_probs_TBV = model.network.get_normalized_probs(output, log_probs=True).float().cpu()
    emissions = [
        log_probs_TBV[: frame_count(model, samples), index] for index, samples in enumerate(samples_B.tolist())
    ]
    for name, log_probs_TV in zip(names, emissions, strict=True):
        if log_probs_TV.isnan().any():
            raise InputError(
                f"{name}: the network gives NaN; its training has diverged (use another checkpoint), or float16 "
                "overflows (use bfloat16 or float32)"
            )
    return emissions


def frame_count(model: CtcModel, samples: int) -> int:
    """Return how many frames the network makes of so many samples."""
    return (samples - model.min_samples) // model.frame_samples + 1


def _prepared(model: CtcModel, wave_S: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(wave_S, wave_S.shape) if model.normalize else wave_S


@dataclass(frozen=True)
class Symbol:
    """A symbol of the best path: its index, first and last frame, and its frames' mean log-probability."""

    index: int
    first: int
    last: int
    log_prob: float


@dataclass(frozen=True)
class Word:
    """A word, its start and duration in seconds, and its confidence between 0 and 1."""

    text: str
    start: float
    duration: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """Words and their scores: acoustic (natural logarithm), language model (logarithm to base 10, as KenLM's), total.

    The total is acoustic + weight * lm + word score * words, by which hypotheses are ranked.
    """

    words: list[Word]
    acoustic: float
    lm: float
    total: float

    @property
    def text(self) -> str:
        """Words with spaces between them."""
        return " ".join(word.text for word in self.words)


# From log-probabilities (T, V) to hypotheses, best first, at least one.
Search = Callable[[torch.Tensor], list[Hypothesis]]


def greedy_search(model: CtcModel) -> Search:
    """Return the search that takes the best symbol of each frame."""

    def search(log_probs_TV: torch.Tensor) -> list[Hypothesis]:
        score = float(log_probs_TV.amax(dim=-1).sum())
        return [Hypothesis(timed_words(best_path(log_probs_TV, model.blank), model), score, 0.0, score)]

    return search


def best_path(log_probs_TV: torch.Tensor, blank: int) -> list[Symbol]:
    """Return the best symbol of every frame, repeats collapsed, then blanks dropped."""
    return path_symbols(log_probs_TV.argmax(dim=-1), log_probs_TV, blank)


def path_symbols(path_T: torch.Tensor, log_probs_TV: torch.Tensor, blank: int) -> list[Symbol]:
    """Return the symbols along a path (one index a frame), repeats collapsed, then blanks dropped."""
    indices, counts = path_T.unique_consecutive(return_counts=True)
    log_probs_T = log_probs_TV.gather(1, path_T[:, None])[:, 0].tolist()
    symbols, start = [], 0
    for index, count in zip(indices.tolist(), counts.tolist(), strict=True):
        if index != blank:
            log_prob = sum(log_probs_T[start : start + count]) / count
            symbols.append(Symbol(index, start, start + count - 1, log_prob))
        start += count
    return symbols


def greedy(log_probs_TV: torch.Tensor, blank: int) -> list[int]:
    """Return the symbols of best_path alone."""
    return [symbol.index for symbol in best_path(log_probs_TV, blank)]


def to_words(ids: Sequence[int], labels: Sequence[str], post_process: str = "letter") -> list[str]:
    """Join symbols to words by fairseq's rules: "|" ends a word (letter), "▁" begins one (sentencepiece).

    As in fairseq, <s> and </s> are left out and <unk> and <pad> are spelt as they are.
    """
    symbols = " ".join(labels[index] for index in ids if labels[index] not in ("<s>", "</s>"))
    return fairseq_post_process(symbols, post_process).split()


def timed_words(symbols: Sequence[Symbol], model: CtcModel) -> list[Word]:
    """Return the words of to_words with the time from their first to their last symbol's frames.

    A CTC network may emit a symbol late or early within its sound: times are good to about a tenth of a second. The
    confidence is the geometric mean of the probabilities of the word's symbols.
    """
    words: list[list[Symbol]] = [[]]
    texts = [""]
    for symbol in symbols:
        label = model.labels[symbol.index]
        if label in ("<s>", "</s>"):
            continue
        for piece, part in enumerate(label.split(model.boundary)):
            if piece:
                words.append([])
                texts.append("")
            if part:
                words[-1].append(symbol)
                texts[-1] += part
    second = model.frame_samples / model.sample_rate
    return [
        Word(
            text,
            start=held[0].first * second,
            duration=(held[-1].last + 1 - held[0].first) * second,
            confidence=min(1.0, math.exp(sum(symbol.log_prob for symbol in held) / len(held))),
        )
        for text, held in zip(texts, words, strict=True)
        if text
    ]
