"""Signals of health: what a batch's vectors, codes, clusters, logits and waves look like.

A signal is a tensor (2,) of a sum and of the count that it is over, so that batches and workers add theirs; its value
is sum / count. Nothing here draws, waits for the device or keeps a gradient graph, and what would be large is read in a
few hundred evenly spaced rows. Letters: B utterances, M masked frames of each, T frames, S samples, D width, N
negatives, G codebook groups, V codes in each, R sampled rows, L lags.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ccc_w2v.losses.views import TwoViewOutput

Signals = dict[str, torch.Tensor]

ROWS = 256
MAX_LAG = 10  # frames to either side in which a shift between the views is looked for
# An audible shift raises the correlation of the energies by more than this; two noises differ by less.
LAG_MARGIN = 0.1


def mean_signal(values: torch.Tensor) -> torch.Tensor:
    """Return the sum and the number of a tensor's values, (2,) in fp32."""
    total = values.detach().float().sum()
    return torch.stack([total, torch.full_like(total, values.numel())])


def rows_of(vectors: torch.Tensor, rows: int = ROWS) -> torch.Tensor:
    """Return at most R evenly spaced rows of (..., D) as a detached (R, D)."""
    flat = vectors.detach().flatten(0, -2)
    # Rounded up, so that never more than ``rows`` are left.
    return flat[:: -(-len(flat) // rows)]


def vector_signals(name: str, vectors_BMD: torch.Tensor, *, ranks: bool) -> Signals:
    """Return the variance of the vectors' directions (0: all the same, 1: spread) and, with ``ranks``, their rank."""
    unit_RD = F.normalize(rows_of(vectors_BMD).float(), dim=-1)
    signals = {f"{name}_variance": mean_signal(1 - unit_RD.mean(dim=0).square().sum())}
    if ranks:
        signals[f"{name}_effective_rank"] = mean_signal(effective_rank(unit_RD))
    return signals


def effective_rank(vectors_RD: torch.Tensor) -> torch.Tensor:
    """Return how many directions vectors vary in: exp of the entropy of the covariance's eigenvalues, 1 to D.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007. Vectors that do not vary have the rank 1.
    """
    # An overflowing fp16 update may hold infinities, on which the eigenvalues would not converge.
    centred_RD = torch.nan_to_num(vectors_RD - vectors_RD.mean(dim=0))
    # R x R and D x D have the same eigenvalues, but for zeros.
    smaller = centred_RD if centred_RD.size(0) <= centred_RD.size(1) else centred_RD.T
    eigenvalues = torch.linalg.eigvalsh(smaller @ smaller.T).clamp_min(0)
    share = eigenvalues / eigenvalues.sum().clamp_min(torch.finfo(eigenvalues.dtype).tiny)
    return torch.special.entr(share).sum().exp()


def perplexities(distribution_GV: torch.Tensor) -> torch.Tensor:
    """Return the perplexity of each group's distribution over its codes, (G,), 1 to V."""
    return torch.special.entr(distribution_GV.detach().float()).sum(dim=-1).exp()


def codebook_signals(view: str, usage_GV: torch.Tensor, probability_GV: torch.Tensor) -> Signals:
    """Return each group's code and prob perplexity, numbered from 1, and the perplexity as a share of all codes."""
    signals = {}
    for name, distribution_GV in (("code", usage_GV), ("prob", probability_GV)):
        perplexity_G = perplexities(distribution_GV)
        for group, value in enumerate(perplexity_G.unbind(), start=1):
            signals[f"{name}_perplexity{view}_group{group}"] = mean_signal(value)
        signals[f"{name}_perplexity{view}_share"] = mean_signal(perplexity_G.sum() / distribution_GV.numel())
    return signals


def code_signals(codes_BMG: torch.Tensor, codes: int) -> Signals:
    """Return the entropy of an utterance's codes over time (bits, mean over groups)."""
    codes_BGM = codes_BMG.transpose(1, 2)
    counts_BGV = torch.zeros(*codes_BGM.shape[:2], codes, device=codes_BMG.device)
    counts_BGV.scatter_add_(2, codes_BGM, torch.ones_like(codes_BGM, dtype=counts_BGV.dtype))
    entropy_BG = torch.special.entr(counts_BGV / codes_BMG.size(1)).sum(dim=-1)
    return {"code_entropy_over_time": mean_signal(entropy_BG / torch.log(torch.full_like(entropy_BG, 2.0)))}


def explained_share(codes_P: torch.Tensor, values_P: torch.Tensor, codes: int) -> torch.Tensor:
    """Return the share of the values' variance that the codes explain, without the share that chance explains.

    Epsilon squared of a one-way analysis of variance (Kelley 1935): 0 where codes and values have nothing in common
    (a little below by chance), 1 where a code tells the value.
    """
    values_P = values_P.float() - values_P.float().mean()
    members_V, sums_V = (torch.zeros(codes, device=values_P.device) for _ in range(2))
    members_V.scatter_add_(0, codes_P, torch.ones_like(values_P))
    sums_V.scatter_add_(0, codes_P, values_P)
    total = values_P.square().sum()
    # Sum of squares within codes = total - what the codes' means explain.
    within = total - (sums_V.square() / members_V.clamp_min(1)).sum()
    used = (members_V > 0).sum()
    points = len(values_P)
    return 1 - (within / (points - used).clamp_min(1)) / (total / max(points - 1, 1)).clamp_min(1e-12)


def cluster_signals(labels_UP: torch.Tensor, clusters: int) -> Signals:
    """Return the share of points in the largest of each problem's clusters, and the share of clusters without any."""
    sizes_UK = torch.zeros(len(labels_UP), clusters, device=labels_UP.device)
    sizes_UK.scatter_add_(1, labels_UP, torch.ones_like(labels_UP, dtype=sizes_UK.dtype))
    return {
        "largest_cluster_share": mean_signal(sizes_UK.amax(dim=1) / labels_UP.size(1)),
        "empty_cluster_share": mean_signal((sizes_UK == 0).float()),
    }


def logit_signals(
    term: str,
    raw: torch.Tensor,
    weighed: torch.Tensor,
    near_BMN: torch.Tensor,
    loss: torch.Tensor,
    *,
    temperature: float,
    near_weight: float,
) -> Signals:
    """Return a term's cosines, its distance from chance, and what is left of its negatives.

    ``raw`` and ``weighed`` are its logits (B, M, 1 + N) before and after near positives are weakened and equal codes
    masked out, ``loss`` is summed over frames [nats]. Chance is the loss of a model that tells no frames apart: log2 of
    the candidates that are left, among which a near positive counts ``near_weight``.
    """
    raw_R, weighed_R, near_R = rows_of(raw), rows_of(weighed), rows_of(near_BMN)
    present_R = torch.isfinite(weighed_R[:, 1:]).float()
    left_R = torch.where(near_R, present_R * near_weight, present_R).sum(dim=-1)
    frames = raw.size(0) * raw.size(1)
    chance = torch.log2(1 + left_R).mean()
    # A factor below 1 raises a negative logit, where it should weaken it.
    raised_R = near_R & (raw_R[:, 1:] < 0)
    near = near_R.float().sum()
    return {
        f"positive_cosine_{term}": mean_signal(raw_R[:, 0] * temperature),
        f"negative_cosine_{term}": mean_signal(raw_R[:, 1:] * temperature),
        f"below_chance_{term}": torch.stack(
            [
                chance * frames - loss.detach().float() / torch.log(torch.full_like(chance, 2.0)),
                torch.full_like(chance, frames),
            ]
        ),
        "negatives_left_share": mean_signal(present_R),
        "negative_near_logit_share": torch.stack([raised_R.float().sum(), near]),
    }


def view_signals(output: TwoViewOutput) -> Signals:
    """Return how near the two views are: cosines of contexts and targets, share of equal codes; for what is there."""
    original, augmented = output.original, output.augmented
    if original is None or augmented is None:
        return {}
    signals = {}
    pairs = {
        "context": (original.context_BMD, augmented.context_BMD),
        "target": (original.target_BMD, augmented.target_BMD),
    }
    for name, (first_BMD, second_BMD) in pairs.items():
        if first_BMD is not None and second_BMD is not None:
            first_RD, second_RD = rows_of(first_BMD).float(), rows_of(second_BMD).float()
            signals[f"view_cosine_{name}"] = mean_signal(F.cosine_similarity(first_RD, second_RD, dim=-1))
    signals["view_equal_code_share"] = mean_signal((original.codes_BMG == augmented.codes_BMG).all(dim=-1))
    return signals


def frame_energies(wave_BS: torch.Tensor, frames: int) -> torch.Tensor:
    """Return the energy of each of T frames in dB of full scale, (B, T), none below -100 dB."""
    hop = wave_BS.size(1) // frames
    power_BT = wave_BS.detach().float()[:, : hop * frames].unflatten(1, (frames, hop)).square().mean(dim=-1)
    return 10 * torch.log10(power_BT.clamp_min(1e-10))


def masked_values(values_BT: torch.Tensor, mask_BT: torch.Tensor, masked: int) -> torch.Tensor:
    """Return the values of the M masked frames of each utterance in order, (B, M), without waiting for the device."""
    # Stable: the masked frames come first, in order; nonzero() would wait for a GPU.
    places_BM = torch.argsort(mask_BT.to(torch.int8), dim=1, descending=True, stable=True)[:, :masked]
    return torch.take_along_dim(values_BT, places_BM.sort(dim=1).values, dim=1)


def loudness_signals(energy_BM: torch.Tensor, codes_BMG: torch.Tensor, codes: int) -> Signals:
    """Return how much the audio's loudness varies over time [dB] and how much of that the codes tell (0 to 1)."""
    shares = [explained_share(codes_P, energy_BM.flatten(), codes) for codes_P in codes_BMG.flatten(0, 1).unbind(-1)]
    return {
        "energy_std_db": mean_signal(energy_BM.std(dim=1, correction=0)),
        "code_energy_share": mean_signal(torch.stack(shares)),
    }


def shift_signals(original_BS: torch.Tensor, augmented_BS: torch.Tensor, frames: int) -> Signals:
    """Return how near the two views' waves are (cosine) and by how many frames their energies are shifted."""
    energies = []
    for wave_BS in (original_BS, augmented_BS):
        energy_BT = frame_energies(wave_BS, frames)
        energies.append(energy_BT - energy_BT.mean(dim=1, keepdim=True))
    return {
        "view_cosine_wave": mean_signal(F.cosine_similarity(original_BS.float(), augmented_BS.float(), dim=1)),
        "view_shift_frames": mean_signal(lag(*energies)),
    }


def lag(first_BT: torch.Tensor, second_BT: torch.Tensor) -> torch.Tensor:
    """Return by how many frames, 0 to 10, the second curves correlate best with the first, over all utterances."""
    frames = first_BT.size(1)
    furthest = min(MAX_LAG, frames // 4)
    products_L = torch.stack(
        [
            (
                first_BT[:, max(0, -shift) : frames - max(0, shift)]
                * second_BT[:, max(0, shift) : frames + min(0, shift)]
            ).sum()
            / (frames - abs(shift))
            for shift in range(-furthest, furthest + 1)
        ]
    )
    # Standard deviations, since both have mean 0; times B, over which the products were summed.
    scale = (first_BT.square().mean() * second_BT.square().mean()).sqrt().clamp_min(1e-6) * len(first_BT)
    correlation_L = products_L / scale
    best = correlation_L.argmax()
    # amax, not the element at ``best``, for which a GPU would have to tell the place.
    moved = correlation_L.amax() > correlation_L[furthest] + LAG_MARGIN
    return ((best - furthest).abs() * moved).float()
