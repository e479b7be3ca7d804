"""The same objective the way that the original implementation goes about it, to measure ours against.

Two passes of the network, one for each view; negatives as tensors of vectors (N, B, M, D); a cosine similarity for each
of them; k-means by the package fast-pytorch-kmeans until it has converged. tests/benchmark holds it to the same loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fast_pytorch_kmeans import KMeans

from ccc_w2v.criterion import TERMS, CccCriterion
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.losses.contrastive import contrastive_term
from ccc_w2v.losses.kmeans import cluster_count
from ccc_w2v.losses.negatives import sample_negatives
from ccc_w2v.model import CccWav2Vec2Model


class TwoPassModel(CccWav2Vec2Model):
    """ccc_wav2vec2 with one pass of the network for each view."""

    def _encode_together(
        self,
        waves: list[torch.Tensor],
        padding_mask: torch.Tensor | None,
        mask_indices: torch.Tensor,
        seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        views = [self.encode(view, padding_mask, mask_indices, None, seed) for view in waves]
        context, features, raw = (torch.cat(parts) for parts in zip(*views, strict=True))
        return context, features, raw


class UnfusedCriterion(CccCriterion):
    """`ccc` in its mode scale_similarity with explicit negatives."""

    def objective(
        self, model: Any, output: dict[str, Any], sample: dict[str, Any], weights: dict[str, float] | None = None
    ) -> dict[str, Any]:
        """Compute what CccCriterion.objective does, as far as the loss needs it."""
        seed = sample["net_input"].get("seed", 0)
        utterances, frames, _ = output["target"].shape
        points = F.normalize(torch.cat([output[f"target{view}"].detach() for view in ("", "_aug")]), dim=-1).flatten(
            0, 1
        )
        starts = sample.get("kmeans_starts")
        clusters = cluster_count(frames, self.cfg.cluster_factor) if starts is None else starts.size(-1)
        kmeans = KMeans(n_clusters=clusters, mode="cosine")
        labels = kmeans.fit_predict(points, None if starts is None else points[starts.view(-1)])
        near, equal, vectors = {}, {}, {}
        drawn: dict[str, Any] = {}
        for view, own in zip(("", "_aug"), labels.view(2, -1), strict=True):
            generator = generator_for(seed, "negatives" + view, device=own.device)
            drawn[view] = sample.get("negatives" + view)
            if drawn[view] is None:
                drawn[view] = sample_negatives(utterances, frames, model.n_negatives, generator)
            first_B11 = frames * torch.arange(utterances, device=own.device).view(-1, 1, 1)
            rows_BMN = drawn[view].to(own.device) + first_B11
            near[view] = (own[rows_BMN] == own.view(utterances, frames, 1)).permute(2, 0, 1)
            codes = output["codes" + view].flatten(0, 1)
            equal[view] = (codes[rows_BMN] == output["codes" + view].unsqueeze(2)).all(-1).permute(2, 0, 1)
            vectors[view] = output["target" + view].flatten(0, 1)[rows_BMN].permute(2, 0, 1, 3)
        terms = {}
        for name, (context, target) in TERMS.items():
            candidates = torch.cat([output["target" + target].unsqueeze(0), vectors[target]])
            cosine = F.cosine_similarity(output["context" + context].float(), candidates.float(), dim=-1)
            logits = cosine / model.logit_temp
            negative = torch.where(near[target], logits[1:] * self.cfg.scale_factor, logits[1:])
            negative = negative.masked_fill(equal[target], float("-inf"))
            terms[name] = contrastive_term(torch.cat([logits[:1], negative]).permute(1, 2, 0))
        return {"terms": terms, "negatives": drawn[""], "near": near[""], "clusters": clusters}
