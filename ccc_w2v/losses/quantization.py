"""Gumbel quantisation with the noise passed in, and the perplexities of the codebook.

Letters: B utterances, M masked frames, G codebook groups, V codes in each, D width of the quantised vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Quantized:
    """Quantised vectors (B, M, D), the codes (B, M, G) they stand for, and the two perplexities, summed over groups.

    ``usage_GV`` is how often a code is the likeliest of its group, ``probability_GV`` its mean probability.
    """

    vectors_BMD: torch.Tensor
    codes_BMG: torch.Tensor
    code_perplexity: torch.Tensor
    prob_perplexity: torch.Tensor
    usage_GV: torch.Tensor
    probability_GV: torch.Tensor


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draw standard Gumbel noise in fp32 on the generator's device: minus the logarithm of an exponential draw."""
    drawn = torch.empty(shape, device=generator.device).exponential_(generator=generator)
    # An exponential draw may be 0, which has no logarithm.
    return -drawn.clamp_min(torch.finfo(drawn.dtype).tiny).log()


def gumbel_quantize(
    logits_BMGV: torch.Tensor, codebook_GVd: torch.Tensor, temperature: float, noise_BMGV: torch.Tensor | None
) -> Quantized:
    """Pick a code per group by straight-through Gumbel softmax, or the most likely code where ``noise`` is None.

    ``codebook_GVd`` holds V vectors of width d = D / G for each group. Source: wav2vec 2.0 (arXiv 2006.11477)
    section 2; equal to fairseq's GumbelVectorQuantizer on the same noise, without its (B M, G V, d) intermediate.
    """
    logits_BMGV = logits_BMGV.float()
    likely_BMG = logits_BMGV.argmax(dim=-1)
    if noise_BMGV is None:
        codes_BMG, choice_BMGV = likely_BMG, _one_hot(likely_BMG, logits_BMGV)
    else:
        soft = torch.softmax((logits_BMGV + noise_BMGV) / temperature, dim=-1)
        codes_BMG = soft.argmax(dim=-1)
        # Straight-through: the value of the one-hot choice, the gradient of the softmax.
        choice_BMGV = _one_hot(codes_BMG, soft) - soft.detach() + soft
    # Each group looks up its own codebook; its d columns are a part of the D = G x d.
    vectors = torch.einsum("bmgv,gvd->bmgd", choice_BMGV.to(codebook_GVd.dtype), codebook_GVd)
    # Without the noise: the perplexities describe the codebook, not a draw from it.
    usage_GV = _one_hot(likely_BMG, logits_BMGV).mean(dim=(0, 1))
    probability_GV = torch.softmax(logits_BMGV, dim=-1).mean(dim=(0, 1))
    perplexities = (_perplexity(usage_GV), _perplexity(probability_GV))
    return Quantized(vectors.flatten(2), codes_BMG, *perplexities, usage_GV, probability_GV.detach())


def _one_hot(codes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like).scatter_(-1, codes.unsqueeze(-1), 1.0)


def _perplexity(distribution_GV: torch.Tensor) -> torch.Tensor:
    # An unused code adds nothing: 0 x log(1e-7) = 0. The 1e-7 is fairseq's.
    entropy_G = -(distribution_GV * torch.log(distribution_GV + 1e-7)).sum(dim=-1)
    return entropy_G.exp().sum()
