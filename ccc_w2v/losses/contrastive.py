"""The contrastive term: cosine logits, the influence of near positives, cross entropy.

Letters: B utterances, M masked frames, N negatives, D width. Logits are (B, M, 1 + N), the positive first, in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ccc_w2v.losses.negatives import of_negatives

NEAR_POSITIVE_MODES = ("scale_similarity", "log_weight", "remove")


def cosine_logits(
    context_BMD: torch.Tensor, target_BMD: torch.Tensor, negatives_BMN: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return cosine / temperature of each context with its positive and its negatives: (B, M, 1 + N), fp32.

    All M x M similarities of an utterance are one matrix product, from which the sampled columns are gathered: with
    N = 100 of M = 350 frames this is far cheaper than gathering N target vectors for each frame.
    """
    # In fp32 also under autocast: a temperature of 0.1 multiplies every rounding error by ten.
    with torch.autocast(context_BMD.device.type, enabled=False):
        context_BMD = F.normalize(context_BMD.float(), dim=-1)
        target_BMD = F.normalize(target_BMD.float(), dim=-1)
        similarity_BMM = torch.bmm(context_BMD, target_BMD.transpose(1, 2)) / temperature
        positive_BM1 = similarity_BMM.diagonal(dim1=1, dim2=2).unsqueeze(-1)
        return torch.cat([positive_BM1, of_negatives(similarity_BMM, negatives_BMN)], dim=-1)


def weigh_negatives(
    logits: torch.Tensor,
    near_BMN: torch.Tensor,
    equal_BMN: torch.Tensor,
    mode: str,
    scale_factor: float,
) -> torch.Tensor:
    """Weaken near positives and mask out negatives with the positive's own code; returns new logits (B, M, 1 + N).

    ``scale_similarity`` multiplies a near positive's logit by the factor (the paper's; it raises negative logits),
    ``log_weight`` adds its logarithm, which multiplies the term in the softmax's denominator by exactly the factor,
    ``remove`` masks it out. Source: docs/method.md, section 4.
    """
    positive, negative_BMN = logits[..., :1], logits[..., 1:]
    if mode == "scale_similarity":
        negative_BMN = torch.where(near_BMN, negative_BMN * scale_factor, negative_BMN)
    elif mode == "log_weight" and scale_factor > 0:
        # exp(logit + log(factor)) = factor x exp(logit).
        negative_BMN = negative_BMN + near_BMN * torch.tensor(scale_factor).log().item()
    elif mode in ("remove", "log_weight"):  # a weight of zero is a removal
        equal_BMN = equal_BMN | near_BMN
    else:
        raise ValueError(f"unknown near_positives mode {mode!r}; available: {', '.join(NEAR_POSITIVE_MODES)}")
    # Masking comes last: infinity times a scale factor of 0 would be NaN.
    return torch.cat([positive, negative_BMN.masked_fill(equal_BMN, float("-inf"))], dim=-1)


@dataclass(frozen=True)
class ContrastiveTerm:
    """One of the three terms, summed over masked frames: the loss in nats, the number of frames it got right."""

    loss: torch.Tensor
    correct: torch.Tensor


def contrastive_term(logits: torch.Tensor) -> ContrastiveTerm:
    """Cross entropy of picking the positive (index 0) among 1 + N candidates, summed over B x M frames.

    A frame counts as right when the positive has the highest logit and not all logits are the same, as in fairseq's
    wav2vec criterion.
    """
    # -log_softmax at index 0, without the other N columns of it.
    loss = (logits.logsumexp(dim=-1) - logits[..., 0]).sum()
    with torch.no_grad():
        # argmin tells a tie: where all logits are the same, argmax says 0 too.
        correct = (logits.argmax(dim=-1) == 0) & (logits.argmin(dim=-1) != 0)
    return ContrastiveTerm(loss, correct.sum())
