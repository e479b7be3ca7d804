"""The time mask and the channel mask of wav2vec 2.0, drawn from a generator that is passed in, and what they select.

fairseq draws them from a generator that no seed reaches (fairseq-fixed) or from numpy's global one (0.12.2), so that a
resumed run would see other masks. The distribution is fairseq's `compute_mask_indices` with static span lengths.

Letters: B utterances, S samples, T frames, M masked frames of each, F width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def span_mask(
    lengths: list[int],
    width: int,
    prob: float,
    span: int,
    generator: torch.Generator,
    min_spans: int = 0,
) -> torch.Tensor:
    """Mask spans of ``span`` positions in each row, the same number of positions in all: bool (rows, width), CPU.

    ``lengths`` are the valid positions of each row, ``prob`` * length / span spans are started in it (rounded at
    random), spans may overlap, and at least one valid position stays unmasked. Rows with more masked positions than
    the poorest row lose some at random. Raises ValueError for a row of fewer than two positions.
    Source: wav2vec 2.0 (arXiv 2006.11477) section 3.1.
    """
    if min(lengths) < 2:
        raise ValueError(f"a row of {min(lengths)} positions cannot be masked; raise task.min_sample_size")
    mask = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, length in zip(mask, lengths, strict=True):
        row[_span_positions(length, prob, span, generator, min_spans)] = True
    shared = int(mask.sum(dim=-1).min())
    for row in mask:
        masked = row.nonzero().squeeze(-1)
        # Every row keeps as many as the poorest: M is one number for the batch.
        surplus = masked.numel() - shared
        if surplus:
            row[masked[torch.randperm(masked.numel(), generator=generator)[:surplus]]] = False
    return mask


def _span_positions(length: int, prob: float, span: int, generator: torch.Generator, min_spans: int) -> torch.Tensor:
    # Rounded up with the probability of the fraction, so that the mean is prob x length / span.
    rounding = torch.rand((), generator=generator).item()
    spans = min(max(min_spans, int(prob * length / span + rounding)), length - 1)
    # As in fairseq: spans start where they fit; a row too short for that has spans + 1 places to start from.
    starts_from = max(length - span, spans + 1)
    starts = torch.randperm(starts_from, generator=generator)[:spans]
    positions = (starts.unsqueeze(-1) + torch.arange(span)).flatten().unique()
    positions = positions[positions < length]
    if positions.numel() == length:
        kept = torch.randint(length, (), generator=generator)
        positions = positions[positions != kept]
    return positions


def valid_samples(source_BS: torch.Tensor, padding_BS: torch.Tensor | None, lengths: Sequence[int] | None) -> list[int]:
    """Return the samples of each utterance before padding; only a padding mask on a GPU has to be waited for."""
    if lengths is not None:
        return list(lengths)
    if padding_BS is None:
        return [source_BS.size(1)] * source_BS.size(0)
    return (~padding_BS).sum(dim=-1).tolist()


def frame_padding(frames: int, valid: Sequence[int]) -> torch.Tensor:
    """Return which frames lie behind the valid ones of their utterance: bool (B, T), on the CPU."""
    return torch.arange(frames) >= torch.tensor(valid).unsqueeze(1)


def frames_of_mask(mask_BT: torch.Tensor, masked: int) -> torch.Tensor:
    """Return which frames are the M masked ones of each utterance, in their order: (B, M), on the mask's device.

    A GPU need not be waited for, since how many there are is given.
    """
    return torch.sort(~mask_BT, dim=1, stable=True).indices[:, :masked]


def masked_places(mask_BT: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return utterance and frame of each masked frame; from a mask on the CPU, a GPU need not be waited for."""
    utterances, frames = mask_BT.nonzero(as_tuple=True)
    return utterances.to(device), frames.to(device)


def masked_frames(features_BTF: torch.Tensor, places: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the masked frames' features, (B, M, F): all utterances have the same number of them."""
    return features_BTF[places].unflatten(0, (features_BTF.size(0), -1))
