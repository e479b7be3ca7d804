"""Which utterances go through the network together."""

from __future__ import annotations

from collections.abc import Sequence

from ccc_w2v.decode.ctc_model import CtcModel

MAX_BATCH_SAMPLES = 4_000_000  # 250 s at 16 kHz


# By how much the shortest of a padded batch may be shorter than its longest. A GPU is bound by the number of batches:
# computing as much padding as speech costs it less than another batch.
MAX_PADDING, MAX_PADDING_ON_GPU = 0.2, 0.5


def equal_length_batches(lengths: Sequence[int], max_samples: int = MAX_BATCH_SAMPLES) -> list[list[int]]:
    """Group positions of exactly equal length, longest first, at most ``max_samples`` samples together.

    No batch is padded: the base model's feature encoder normalises each channel over time (group norm), so padding
    would change every frame of the shorter utterances and a transcript would depend on its neighbours. (On a GPU that
    norm is another, padded_norm.py; the folded network of a CPU takes one utterance after the other.)
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


def padded_batches(
    lengths: Sequence[int], max_samples: int = MAX_BATCH_SAMPLES, most_padding: float = MAX_PADDING
) -> list[list[int]]:
    """Group positions of similar length, longest first, at most ``max_samples`` samples together, padding included.

    The shortest of a batch is at most ``most_padding`` of its longest shorter.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        longest = lengths[batches[-1][0]] if batches else 0
        fits = batches and (len(batches[-1]) + 1) * longest <= max_samples
        if fits and lengths[position] >= (1 - most_padding) * longest:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def batches_for(model: CtcModel, lengths: Sequence[int], max_samples: int = MAX_BATCH_SAMPLES) -> list[list[int]]:
    """Group positions as the model allows: padded, or of exactly equal length."""
    if not model.pads:
        return equal_length_batches(lengths, max_samples)
    on_cpu = next(model.network.parameters()).device.type == "cpu"
    return padded_batches(lengths, max_samples, MAX_PADDING if on_cpu else MAX_PADDING_ON_GPU)
