"""Which utterances go through the network together."""

from __future__ import annotations

from collections.abc import Sequence

from ccc_w2v.decode.ctc_model import CtcModel

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
