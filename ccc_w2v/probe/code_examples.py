"""For each entry of the codebook the real frames that chose it most strongly, over all frames of a manifest.

Letters: T frames, G groups, V codes in each.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ccc_w2v.data.alignments import Alignments, label_of_frames
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.probe.features import Encoder, read_wave, stride_of


@dataclass(frozen=True, order=True)
class Example:
    """A frame by how likely its code is there (0 to 1), with the line of its utterance and its place in it."""

    probability: float
    utterance: int
    frame: int


@dataclass(frozen=True)
class CodeUse:
    """What all frames of a manifest chose: counts (G, V), the strongest examples by (group, code), the codes (T, G)."""

    counts_GV: torch.Tensor
    examples: dict[tuple[int, int], list[Example]]
    sequences: list[torch.Tensor]


def code_probabilities(encoder: Encoder, wave_S: torch.Tensor) -> torch.Tensor:
    """Return the probability of each code at each frame of a wave, without masking and without noise: (T, G, V)."""
    network, quantizer = encoder.network, encoder.network.quantizer
    device = next(network.parameters()).device
    features = network.feature_extractor(wave_S[None].to(device)).transpose(1, 2)
    logits = quantizer.weight_proj(network.layer_norm(features))[0]
    return logits.unflatten(-1, (quantizer.groups, quantizer.num_vars)).float().softmax(dim=-1).cpu()


@torch.no_grad()
def use_of_codes(encoder: Encoder, manifest: Manifest, examples: int) -> CodeUse:
    """Run over all recordings; raises InputError for a fine-tuned checkpoint, which has no codebook."""
    if not encoder.has_codes:
        raise InputError("this checkpoint has no codebook, fine-tuning drops it; name the pre-trained one")
    quantizer = encoder.network.quantizer
    counts_GV = torch.zeros(quantizer.groups, quantizer.num_vars, dtype=torch.long)
    strongest: dict[tuple[int, int], list[Example]] = {}
    sequences = []
    for utterance, entry in enumerate(manifest.entries):
        probability_TGV = code_probabilities(encoder, read_wave(encoder, manifest, entry))
        best_TG, codes_TG = probability_TGV.max(dim=-1)
        sequences.append(codes_TG)
        for group in range(quantizer.groups):
            counts_GV[group] += torch.bincount(codes_TG[:, group], minlength=quantizer.num_vars)
            _keep_strongest(
                strongest, group, utterance, best_TG[:, group].tolist(), codes_TG[:, group].tolist(), examples
            )
    for heap in strongest.values():
        heap.sort(reverse=True)
    return CodeUse(counts_GV, strongest, sequences)


def _keep_strongest(
    strongest: dict[tuple[int, int], list[Example]],
    group: int,
    utterance: int,
    best: Sequence[float],
    codes: Sequence[int],
    examples: int,
) -> None:
    for frame, (probability, code) in enumerate(zip(best, codes, strict=True)):
        # Of equally strong frames the first is kept.
        example = Example(probability, -utterance, -frame)
        heap = strongest.setdefault((group, code), [])
        if len(heap) < examples:
            heapq.heappush(heap, example)
        elif example > heap[0]:
            heapq.heapreplace(heap, example)


def labels_of_codes(
    encoder: Encoder, manifest: Manifest, use: CodeUse, alignments: Alignments
) -> dict[tuple[int, int], Counter[str]]:
    """Count by (group, code) the aligned label of each frame that chose the code; utterances not aligned are left out.

    Raises InputError where none of the manifest's utterances is aligned.
    """
    counts: dict[tuple[int, int], Counter[str]] = {}
    seconds = stride_of(encoder) / encoder.sample_rate
    for utterance, codes_TG in zip(utterance_ids(manifest), use.sequences, strict=True):
        if utterance not in alignments:
            continue
        labels = label_of_frames(alignments[utterance], len(codes_TG), seconds)
        for label, codes in zip(labels, codes_TG.tolist(), strict=True):
            for group, code in enumerate(codes):
                counts.setdefault((group, code), Counter())[label] += 1
    if not counts:
        raise InputError(f"{manifest.source}: none of its utterances is in the alignments; align this manifest")
    return counts
