"""The block contrast term: the mean targets of the clusters are pushed apart.

Letters: B utterances, M masked frames of each, U clustering problems, P points of each, D width, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

LOG_FLOOR = 1e-10  # the original's, inside the logarithm


def block_contrast(points_UPD: torch.Tensor, labels_UP: torch.Tensor, clusters: int, scale: float) -> torch.Tensor:
    """Return how near the mean points of each problem's clusters are to one another: (), nats, the mean over problems.

    For a problem with clusters c, d in use and the cosine s of their mean points (0 with themselves), it is
    1/K x mean over c of log(sum over d of exp(scale s)): ``scale`` multiplies, it is the inverse of a temperature. The
    division by all K clusters is the original's too, and makes the term small where there are many. A mean point at the
    origin, where the original is not a number, is similar to none. Source: NBC-Softmax (arXiv 2212.08184), the authors'
    code.
    """
    members_UKP = torch.arange(clusters, device=labels_UP.device)[:, None] == labels_UP.unsqueeze(1)
    sizes_UK = members_UKP.sum(dim=-1)
    used_UK = sizes_UK > 0
    centres_UKD = torch.bmm(members_UKP.to(points_UPD.dtype), points_UPD) / sizes_UK.clamp_min(1).unsqueeze(-1)
    unit_UKD = F.normalize(centres_UKD, dim=-1)
    cosine_UKK = torch.bmm(unit_UKD, unit_UKD.transpose(1, 2))
    # A cluster counts exp(0) = 1 with itself, and one without points counts nothing.
    itself_KK = torch.eye(clusters, dtype=torch.bool, device=cosine_UKK.device)
    weight_UKK = (cosine_UKK.masked_fill(itself_KK, 0) * scale).exp() * used_UK.unsqueeze(1)
    log_UK = (weight_UKK.sum(dim=-1) + LOG_FLOOR).log() * used_UK
    return (log_UK.sum(dim=-1) / used_UK.sum(dim=-1) / clusters).mean()


def joined_views(
    targets: Sequence[torch.Tensor], labels: Sequence[torch.Tensor], *, apart: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the points (U, P, D) and labels (U, P) of views' targets (B, M, D) and labels (B, M).

    ``apart`` makes a problem of each utterance, as cluster_views does.
    """
    # (B, 2M, D): an utterance's points of both views together; in one problem (1, B x 2M, D).
    points_BPD, labels_BP = torch.cat(list(targets), dim=1).float(), torch.cat(list(labels), dim=1)
    if apart:
        return points_BPD, labels_BP
    return points_BPD.flatten(0, 1).unsqueeze(0), labels_BP.view(1, -1)
