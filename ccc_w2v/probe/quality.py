"""What a checkpoint's layers and codes know of phones, without training anything: ABX error, purity, PNMI.

Phones are what the alignments hold: letters, where the aligning network was fine-tuned on letters. Layers are made
discrete by k-means for purity and PNMI, as in HuBERT (arXiv 2106.07447, section V-A); layer 0 enters the Transformer.
Letters: T frames, L layers, D width, G codebook groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2, vq
from tqdm import tqdm

from ccc_w2v.data.alignments import NOT_PHONES, Alignments, label_spans
from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.probe.abx import SPEAKERS, PhoneSegment, abx_error
from ccc_w2v.probe.features import Encoder, hidden_states, read_wave, stride_of
from ccc_w2v.probe.phone_measures import phone_measures

FIT_FRAMES = 20000  # that k-means is fitted on; all are assigned
ITERATIONS = 20


@dataclass
class AlignedFrames:
    """All aligned frames of a set: states of each layer (T, D), codes (T, G) or none, phones, segments of phones."""

    states: list[torch.Tensor] = field(default_factory=list)
    codes_TG: torch.Tensor | None = None
    phones: list[str] = field(default_factory=list)
    segments: list[PhoneSegment] = field(default_factory=list)


@torch.no_grad()
def aligned_frames(
    encoder: Encoder, manifest: Manifest, alignments: Alignments, speakers: Sequence[str], layers: Sequence[int]
) -> AlignedFrames:
    """Run the network over the aligned utterances; frames of word ends are left out.

    Raises InputError where no utterance of the manifest is aligned.
    """
    result = AlignedFrames()
    states: list[list[torch.Tensor]] = [[] for _ in layers]
    codes: list[torch.Tensor] = []
    named = zip(utterance_ids(manifest), manifest.entries, speakers, strict=True)
    aligned = [(utterance, entry, speaker) for utterance, entry, speaker in named if utterance in alignments]
    if not aligned:
        raise InputError(f"{manifest.source}: none of its utterances is in the alignments; align this manifest")
    device = next(encoder.network.parameters()).device
    for utterance, entry, speaker in tqdm(aligned, unit="utt", desc="reading layers"):
        wave_S = read_wave(encoder, manifest, entry)
        states_BTLD, codes_BTG = hidden_states(encoder, wave_S[None].to(device))
        frame_seconds = stride_of(encoder) / encoder.sample_rate
        spans = [
            span
            for span in label_spans(alignments[utterance], states_BTLD.size(1), frame_seconds)
            if span[0] not in NOT_PHONES
        ]
        for phone, first, end in spans:
            begin = len(result.phones)
            result.phones += [phone] * (end - first)
            result.segments.append(PhoneSegment(phone, speaker, begin, len(result.phones)))
        kept = [frame for _, first, end in spans for frame in range(first, end)]
        for place, layer in enumerate(layers):
            # Half of the memory: a set may be an hour of frames in a dozen layers.
            states[place].append(states_BTLD[0, kept, layer].half().cpu())
        if codes_BTG is not None:
            codes.append(codes_BTG[0, kept].cpu())
    if not result.phones:
        raise InputError(f"{manifest.source}: its alignments hold no label but ends of words")
    result.states = [torch.cat(parts) for parts in states]
    result.codes_TG = torch.cat(codes) if codes else None
    return result


def measure_quality(
    frames: AlignedFrames, layers: Sequence[int], *, clusters: int, codes_per_group: int, abx: bool, seed: int
) -> list[dict[str, Any]]:
    """Return a row for each layer, each codebook group and all groups together, with what was measured of each."""
    rows: list[dict[str, Any]] = []
    for layer, states_TD in zip(layers, tqdm(frames.states, unit="layer", desc="measuring"), strict=True):
        unit_TD = F.layer_norm(states_TD.float(), states_TD.shape[-1:])
        units = cluster_frames(unit_TD.numpy(), clusters, seed)
        row = {"of": f"layer {layer}", "layer": layer, **asdict(phone_measures(frames.phones, units))}
        rows.append(row | _abx(frames, unit_TD, abx, seed))
    if frames.codes_TG is not None:
        groups = frames.codes_TG.size(1)
        named = [(f"codes of group {group + 1}", frames.codes_TG[:, group]) for group in range(groups)]
        if groups > 1:
            powers = codes_per_group ** torch.arange(groups)
            named.append(("codes of all groups", (frames.codes_TG * powers).sum(dim=1)))
        for name, units_T in named:
            row = {"of": name, **asdict(phone_measures(frames.phones, units_T.tolist()))}
            rows.append(row | _abx(frames, units_T[:, None], abx, seed, discrete=True))
    return rows


def _abx(
    frames: AlignedFrames, values: torch.Tensor, wanted: bool, seed: int, *, discrete: bool = False
) -> dict[str, float]:
    if not wanted:
        return {}
    return {
        f"abx_{speaker}": abx_error(values, frames.segments, speaker, discrete=discrete, seed=seed)
        for speaker in SPEAKERS
    }


def cluster_frames(values_TD: np.ndarray, clusters: int, seed: int) -> list[int]:
    """Return the k-means cluster of each frame; fitted on at most FIT_FRAMES evenly spaced ones, k-means++ start."""
    fitted = values_TD[:: -(-len(values_TD) // FIT_FRAMES)]
    with warnings.catch_warnings():
        # A cluster without frames keeps its centre; there may be fewer different frames than clusters.
        warnings.simplefilter("ignore")
        centres, _ = kmeans2(
            fitted, min(clusters, len(fitted)), iter=ITERATIONS, minit="++", rng=np.random.default_rng(seed)
        )
    return vq(values_TD, centres)[0].tolist()
