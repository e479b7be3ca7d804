"""`ccc`: alpha L_c + beta L_cross + gamma L'_cross + diversity + penalty (METHOD.md section 5), and one log line."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.losses.contrastive import NEAR_POSITIVE_MODES, contrastive_term, cosine_logits, weigh_negatives
from ccc_w2v.losses.kmeans import cluster_count, cosine_kmeans, draw_starts
from ccc_w2v.losses.negatives import equal_codes, near_positives, sample_negatives

# The three terms by the name they are logged under: whose context, whose targets.
TERMS = {"contrastive": ("", ""), "cross": ("", "_aug"), "cross_aug": ("_aug", "")}


@dataclass
class CccCriterionConfig(FairseqDataclass):
    """The objective's settings; the defaults are the paper's."""

    alpha: float = field(default=1.0, metadata={"help": "weight of L_c: context and targets of the original, >= 0"})
    beta: float = field(default=0.5, metadata={"help": "weight of L_cross: original context, augmented targets, >= 0"})
    gamma: float = field(default=0.5, metadata={"help": "weight of L'_cross: augmented context, other targets, >= 0"})
    cluster_factor: int = field(default=16, metadata={"help": "masked frames per cluster, >= 1; K = max(2, M // it)"})
    kmeans_iterations: int = field(default=15, metadata={"help": "Lloyd iterations in each step, >= 1"})
    near_positives: ChoiceEnum(NEAR_POSITIVE_MODES) = field(  # type: ignore[valid-type]
        default="scale_similarity",
        metadata={"help": "how a negative from its positive's cluster is weakened"},
    )
    scale_factor: float = field(default=0.3, metadata={"help": "influence left to near positives, 0 to 1; 1 = all"})
    extra_losses_on: ChoiceEnum(["original", "both"]) = field(  # type: ignore[valid-type]
        default="original",
        metadata={"help": "views whose diversity and feature penalty count (both: their mean)"},
    )
    diversity_weight: float = field(default=0.1, metadata={"help": "weight of the codebook diversity loss, >= 0"})
    penalty_weight: float = field(default=10.0, metadata={"help": "weight of the mean squared feature, >= 0"})


@register_criterion("ccc", dataclass=CccCriterionConfig)
class CccCriterion(FairseqCriterion):
    """The cross-contrastive loss of ccc-wav2vec 2.0 over the two views that the model returns."""

    def __init__(self, cfg: CccCriterionConfig, task: Any):
        super().__init__(task)
        _check(cfg)
        self.cfg = cfg
        self.weights = {"contrastive": cfg.alpha, "cross": cfg.beta, "cross_aug": cfg.gamma}

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[torch.Tensor, int, dict]:
        """Return the loss summed over masked frames (nats), the number of these frames, and what is logged.

        The sample's ``negatives`` and ``negatives_aug`` (B, M, N) and ``kmeans_starts`` (1, K), where given, replace
        the draws from the batch's seed.
        """
        output = model(**sample["net_input"])
        objective = self.objective(model, output, sample)
        sample_size = output["target"].size(0) * output["target"].size(1)
        terms = objective["terms"]
        diversity, penalty = (
            weight * sample_size * self._over_views(values).float()
            for weight, values in (
                (self.cfg.diversity_weight, [_diversity(output, suffix) for suffix in ("", "_aug")]),
                (self.cfg.penalty_weight, [output["features_pen"], output["features_pen_aug"]]),
            )
        )
        loss = sum(self.weights[name] * term.loss for name, term in terms.items()) + diversity + penalty
        logged = {
            "loss": loss.detach(),
            "loss_diversity": diversity.detach(),
            "loss_penalty": penalty.detach(),
            "sample_size": sample_size,
            "ntokens": sample_size,
            "nsentences": sample["id"].numel(),
            "batches": 1,
            "code_perplexity": output["code_perplexity"].detach(),
            "prob_perplexity": output["prob_perplexity"].detach(),
            "temp": output["temp"],
            "clusters": objective["clusters"],
            "negatives": objective["negatives"].numel(),
            "near_positives": objective["near"].sum(),
            "audio_samples": sample["net_input"]["source"].numel() if self.training else 0,
        }
        for name, term in terms.items():
            logged[f"loss_{name}"] = term.loss.detach()
            logged[f"correct_{name}"] = term.correct
        return loss, sample_size, logged

    def objective(self, model: Any, output: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
        """Draw negatives, cluster the targets and compute the three terms.

        Returns ``terms`` and their ``logits`` (B, M, 1 + N) by name, ``labels`` and ``labels_aug`` (B, M), ``near``
        (B, M, N) of the original view, its ``negatives`` (B, M, N) and the number of ``clusters``.
        """
        seed = sample["net_input"].get("seed", 0)
        negatives, near, equal = {}, {}, {}
        labels, clusters = self._cluster(output, seed, sample.get("kmeans_starts"))
        for view in ("", "_aug"):
            codes = output["codes" + view]
            drawn = sample.get("negatives" + view)
            if drawn is None:
                generator = generator_for(seed, "negatives" + view, device=codes.device)
                drawn = sample_negatives(codes.size(0), codes.size(1), model.n_negatives, generator)
            negatives[view] = drawn
            near[view] = near_positives(labels[view], drawn)
            equal[view] = equal_codes(codes, drawn)
        logits = {}
        for name, (context, target) in TERMS.items():
            raw = cosine_logits(
                output["context" + context], output["target" + target], negatives[target], model.logit_temp
            )
            mode, factor = str(self.cfg.near_positives), self.cfg.scale_factor
            logits[name] = weigh_negatives(raw, near[target], equal[target], mode, factor)
        return {
            "terms": {name: contrastive_term(values) for name, values in logits.items()},
            "logits": logits,
            "labels": labels[""],
            "labels_aug": labels["_aug"],
            "near": near[""],
            "near_aug": near["_aug"],
            "negatives": negatives[""],
            "clusters": clusters,
        }

    def _cluster(
        self, output: dict[str, Any], seed: int, starts: torch.Tensor | None
    ) -> tuple[dict[str, torch.Tensor], int]:
        """Cluster the targets of both views and of the whole local batch together; labels (B, M) of each view."""
        target, target_aug = output["target"].detach(), output["target_aug"].detach()
        points = torch.cat([target, target_aug]).flatten(0, 1).unsqueeze(0)
        if starts is None:
            clusters = cluster_count(target.size(1), self.cfg.cluster_factor)
            starts = draw_starts(1, points.size(1), clusters, generator_for(seed, "kmeans"))
        labels = cosine_kmeans(points, starts, self.cfg.kmeans_iterations)
        original, augmented = labels.view(2, *target.shape[:2])
        return {"": original, "_aug": augmented}, starts.size(1)

    def _over_views(self, values: list[torch.Tensor]) -> torch.Tensor:
        return values[0] if str(self.cfg.extra_losses_on) == "original" else (values[0] + values[1]) / 2

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Every logged value is a sum, so workers may add theirs before reduce_metrics sees them."""
        return True

    @staticmethod
    def reduce_metrics(logging_outputs: Iterable[dict[str, Any]]) -> None:
        """Log sums over sums, in bits, so that the numbers do not depend on how many workers share the batch."""
        logs = list(logging_outputs)

        def total(key: str) -> Any:
            return utils.item(sum(log.get(key, 0) for log in logs))

        frames, batches = total("sample_size"), max(total("batches"), 1)
        for key in ("loss", *(f"loss_{name}" for name in (*TERMS, "diversity", "penalty"))):
            metrics.log_scalar(key, total(key) / max(frames, 1) / math.log(2), frames, round=3)
        for name in TERMS:
            metrics.log_scalar(f"accuracy_{name}", total(f"correct_{name}") / max(frames, 1), frames, round=4)
        for key in ("code_perplexity", "prob_perplexity", "temp", "clusters"):
            metrics.log_scalar(key, total(key) / batches, batches, round=3)
        share = total("near_positives") / max(total("negatives"), 1)
        metrics.log_scalar("near_positive_share", share, total("negatives"), round=4)
        metrics.log_scalar("ntokens", total("ntokens"))
        metrics.log_scalar("nsentences", total("nsentences"))


def _diversity(output: dict[str, Any], suffix: str) -> torch.Tensor:
    return (output["num_vars"] - output["prob_perplexity" + suffix]) / output["num_vars"]


def _check(cfg: CccCriterionConfig) -> None:
    for name in ("alpha", "beta", "gamma", "diversity_weight", "penalty_weight"):
        if getattr(cfg, name) < 0:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: a loss weight must not be negative")
    for name in ("cluster_factor", "kmeans_iterations"):
        if getattr(cfg, name) < 1:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must be a whole number of at least 1")
    if not 0 <= cfg.scale_factor <= 1:
        raise InputError(f"criterion.scale_factor={cfg.scale_factor}: must be between 0 (remove) and 1 (no influence)")
