"""What a pre-trained network still gets wrong about an utterance: its own contrastive loss, under masks of a seed.

Letters: S samples, T frames, M masked frames, F width of the feature encoder, D projected width, N negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ccc_w2v.data.manifest import Manifest
from ccc_w2v.data.masking import span_mask
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.data.trn import utterance_ids
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.losses.contrastive import contrastive_term, cosine_logits, weigh_negatives
from ccc_w2v.losses.negatives import equal_codes, sample_negatives
from ccc_w2v.probe.features import Encoder, read_wave

MASKS = 2  # drawn for each utterance, for less noise
KEPT_EVERY = 20  # utterances; what a kill may lose
HEADER = "utterance\tloss\n"


@torch.no_grad()
def contrastive_loss(encoder: Encoder, wave_S: torch.Tensor, seed: int) -> float:
    """Return wav2vec 2.0's contrastive loss of an utterance, nats per masked frame, the mean over its masks.

    The same seed draws the same masks and negatives on every machine.
    """
    network = encoder.network
    device = next(network.parameters()).device
    frames = _frames(encoder, wave_S)
    losses = []
    for number in range(MASKS):
        drawn = generator_for(seed, "mask", number)
        mask_1T = span_mask([frames], frames, network.mask_prob, network.mask_length, drawn, min_spans=2).to(device)
        # Without a channel mask, which fairseq would draw from a generator that no seed reaches.
        nowhere = torch.zeros(1, frames, network.encoder.embedding_dim, dtype=torch.bool, device=device)
        output = network(
            wave_S[None].to(device), features_only=True, mask=True, mask_indices=mask_1T, mask_channel_indices=nowhere
        )
        context_1MD = network.final_proj(output["x"][mask_1T])[None]
        features_1MF = output["features"][mask_1T][None]
        vectors, codes = network.quantizer(features_1MF)["x"], network.quantizer.forward_idx(features_1MF)[1]
        codes_1MG = codes.view(1, features_1MF.size(1), -1)
        generator = generator_for(seed, "negatives", number)
        negatives_1MN = sample_negatives(1, features_1MF.size(1), network.n_negatives, generator).to(device)
        logits = cosine_logits(context_1MD, network.project_q(vectors), negatives_1MN, network.logit_temp)
        equal_1MN = equal_codes(codes_1MG, negatives_1MN)
        term = contrastive_term(weigh_negatives(logits, torch.zeros_like(equal_1MN), equal_1MN, "remove", 1.0))
        losses.append(float(term.loss) / features_1MF.size(1))
    return sum(losses) / len(losses)


def _frames(encoder: Encoder, wave_S: torch.Tensor) -> int:
    return int(encoder.network._get_feat_extract_output_lengths(torch.tensor([len(wave_S)])))


def losses_of(encoder: Encoder, manifest: Manifest, places: Sequence[int], seed: int, kept: Path) -> dict[int, float]:
    """Return the loss of the utterances at some places of a manifest; what the file ``kept`` has is not repeated.

    Raises InputError for an utterance that is too short to be masked, and as read_audio does.
    """
    ids = utterance_ids(manifest)
    lines = kept.read_text(encoding="utf-8").splitlines()[1:] if kept.is_file() else []
    loss_of = {utterance: float(loss) for utterance, loss in (line.split("\t") for line in lines)}
    todo = [place for place in places if ids[place] not in loss_of]
    for number, place in enumerate(tqdm(todo, unit="utt", desc="losses at the centres"), start=1):
        entry = manifest.entries[place]
        wave_S = read_wave(encoder, manifest, entry)
        if _frames(encoder, wave_S) < 2:
            raise InputError(f"{manifest.where(entry)}: has a single frame, which cannot be masked; leave it out")
        loss_of[ids[place]] = contrastive_loss(encoder, wave_S, seed)
        if number % KEPT_EVERY == 0 or number == len(todo):
            write_whole(kept, HEADER + "".join(f"{utterance}\t{loss!r}\n" for utterance, loss in loss_of.items()))
    return {place: loss_of[ids[place]] for place in places}
