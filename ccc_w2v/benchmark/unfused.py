"""The same objective the way that the original implementation goes about it, to measure ours against.

Two passes of the network, one for each view; negatives as tensors of vectors (N, B, M, D); a cosine similarity for each
of them; k-means by the package fast-pytorch-kmeans until it has converged. tests/benchmark holds it to the same loss.

Letters: B utterances, M masked frames, N negatives, C = 1 + N candidates, D width, V views, P = B M points of a view.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fast_pytorch_kmeans import KMeans

from ccc_w2v.criterion import CccCriterion
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.losses.contrastive import contrastive_term
from ccc_w2v.losses.kmeans import cluster_count
from ccc_w2v.losses.negatives import sample_negatives
from ccc_w2v.losses.objective import TERMS, Negatives, Objective, Term
from ccc_w2v.losses.views import AUGMENTED, ORIGINAL, SUFFIX, EncodedView, TwoViewOutput
from ccc_w2v.model import CccWav2Vec2Model


class TwoPassModel(CccWav2Vec2Model):
    """ccc_wav2vec2 with one pass of the network for each view."""

    def _encode_together(
        self,
        waves: list[torch.Tensor],
        padding_BT: torch.Tensor | None,
        mask_BT: torch.Tensor,
        seed: int,
    ) -> EncodedView:
        views = [self.encode(view, padding_BT, mask_BT, None, seed) for view in waves]
        return EncodedView(*(torch.cat(parts) for parts in zip(*views, strict=True)))


class UnfusedCriterion(CccCriterion):
    """`ccc` in its mode scale_similarity with explicit negatives."""

    def objective(
        self, model: Any, output: TwoViewOutput, sample: dict[str, Any], weights: dict[str, float] | None = None
    ) -> Objective:
        """Compute what CccCriterion.objective does."""
        seed = sample["net_input"].get("seed", 0)
        views = output.views()
        utterances, frames, _ = views[ORIGINAL].target_BMD.shape
        # In float32: fast-pytorch-kmeans does not take bfloat16.
        targets = torch.cat([view.target_BMD.detach() for view in views.values()]).float()
        points = F.normalize(targets, dim=-1).flatten(0, 1)
        starts = sample.get("kmeans_starts")
        clusters = cluster_count(frames, self.cfg.cluster_factor) if starts is None else starts.size(-1)
        kmeans = KMeans(n_clusters=clusters, mode="cosine")
        labels_VP = kmeans.fit_predict(points, None if starts is None else points[starts.view(-1)]).view(2, -1)
        negatives, vectors_NBMD = {}, {}
        for (name, view), labels_P in zip(views.items(), labels_VP, strict=True):
            drawn_BMN = sample.get("negatives" + SUFFIX[name])
            if drawn_BMN is None:
                generator = generator_for(seed, "negatives" + SUFFIX[name], device=labels_P.device)
                drawn_BMN = sample_negatives(utterances, frames, model.n_negatives, generator)
            first_B11 = frames * torch.arange(utterances, device=labels_P.device).view(-1, 1, 1)
            rows_BMN = drawn_BMN.to(labels_P.device) + first_B11
            near_BMN = labels_P[rows_BMN] == labels_P.view(utterances, frames, 1)
            equal_BMN = (view.codes_BMG.flatten(0, 1)[rows_BMN] == view.codes_BMG.unsqueeze(2)).all(-1)
            negatives[name] = Negatives(drawn_BMN, near_BMN, equal_BMN, labels_P.view(utterances, frames))
            vectors_NBMD[name] = view.target_BMD.flatten(0, 1)[rows_BMN].permute(2, 0, 1, 3)
        terms = {}
        for name, of in TERMS.items():
            candidates_CBMD = torch.cat([views[of.target].target_BMD.unsqueeze(0), vectors_NBMD[of.target]])
            context_BMD = views[of.context].context_BMD
            assert context_BMD is not None, "the un-fused formulation computes both contexts"
            raw_CBM = F.cosine_similarity(context_BMD.float(), candidates_CBMD.float(), dim=-1) / model.logit_temp
            near_NBM, equal_NBM = (
                flags_BMN.permute(2, 0, 1)
                for flags_BMN in (negatives[of.target].near_BMN, negatives[of.target].equal_BMN)
            )
            negative_NBM = torch.where(near_NBM, raw_CBM[1:] * self.cfg.scale_factor, raw_CBM[1:])
            negative_NBM = negative_NBM.masked_fill(equal_NBM, float("-inf"))
            logits_BMC = torch.cat([raw_CBM[:1], negative_NBM]).permute(1, 2, 0)
            result = contrastive_term(logits_BMC)
            terms[name] = Term(of, raw_CBM.permute(1, 2, 0), logits_BMC, result.loss, result.correct)
        return Objective(terms, negatives[ORIGINAL], negatives[AUGMENTED], clusters, problems=1)
