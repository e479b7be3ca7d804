"""wav2vec 2.0's two extra losses: the codebook's diversity and the feature penalty (arXiv 2006.11477, section 3.2).

The penalty is fairseq's, the mean square of the feature encoder's output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ccc_w2v.losses.views import View


def extra_losses(
    views: Sequence[View], codebook_size: int, diversity_weight: float, penalty_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the diversity loss, 0 (all codes alike) to 1, and the penalty: weighted means over views, each ()."""
    shares = [(codebook_size - view.prob_perplexity) / codebook_size for view in views]
    penalties = [view.feature_penalty for view in views]
    diversity, penalty = (torch.as_tensor(sum(values)).float() / len(views) for values in (shares, penalties))
    return _weighted(diversity_weight, diversity), _weighted(penalty_weight, penalty)


def _weighted(weight: float, value: torch.Tensor) -> torch.Tensor:
    """Multiply; a value of weight 0 is left out, for in fp16 it may be infinite, and 0 x inf is not a number."""
    return weight * value if weight else value.new_zeros(())
