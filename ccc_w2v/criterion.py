"""`ccc`: alpha L_c + beta L_cross + gamma L'_cross + diversity + penalty (docs/method.md, section 5), one log line."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from torch.profiler import record_function

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError, one_line_errors
from ccc_w2v.losses.bank import POINTS_PER_CENTROID, TargetBank, empty_bank, require_faiss
from ccc_w2v.losses.batch_signals import SLOW_EVERY, batch_signals
from ccc_w2v.losses.contrastive import NEAR_POSITIVE_MODES, contrastive_term, cosine_logits, weigh_negatives
from ccc_w2v.losses.kmeans import cluster_count, cosine_kmeans, draw_starts, nearest
from ccc_w2v.losses.negatives import equal_codes, near_positives, sample_negatives
from ccc_w2v.model import AUGMENTED, ORIGINAL, VIEWS
from ccc_w2v.training.signal_log import SIGNAL, USAGE, log_signals

CLUSTER_SCOPES = ("batch", "utterance", "global")
CONTEXTS = ("both", "original", "augmented", "alternate")
# The three terms by the name they are logged under: whose context, whose targets.
TERMS = {"contrastive": ("", ""), "cross": ("", "_aug"), "cross_aug": ("_aug", "")}


@dataclass
class CccCriterionConfig(FairseqDataclass):
    """The objective's settings; the defaults are the paper's."""

    alpha: float = field(default=1.0, metadata={"help": "weight of L_c: context and targets of the original, >= 0"})
    beta: float = field(default=0.5, metadata={"help": "weight of L_cross: original context, augmented targets, >= 0"})
    gamma: float = field(default=0.5, metadata={"help": "weight of L'_cross: augmented context, other targets, >= 0"})
    cluster_factor: int = field(default=16, metadata={"help": "masked frames per cluster, >= 1; K = max(2, M // it)"})
    cluster_scope: ChoiceEnum(CLUSTER_SCOPES) = field(  # type: ignore[valid-type]
        default="batch",
        metadata={"help": "targets that are clustered together: the local batch's, one utterance's, or a bank's"},
    )
    kmeans_iterations: int = field(default=18, metadata={"help": "Lloyd iterations in each step, >= 1"})
    kmeans_restarts: int = field(
        default=3,
        metadata={"help": "starts that get a third of the iterations each, the best gets the rest, >= 1"},
    )
    bank_clusters: int = field(default=500, metadata={"help": "clusters of cluster_scope=global, >= 2"})
    bank_size: int = field(default=50000, metadata={"help": "targets that the bank keeps, >= 39 x bank_clusters"})
    bank_points: int = field(default=1024, metadata={"help": "targets that each process adds per batch, >= 1"})
    bank_refit_updates: int = field(default=200, metadata={"help": "updates between two clusterings of the bank, >= 1"})
    contexts: ChoiceEnum(CONTEXTS) = field(  # type: ignore[valid-type]
        default="both",
        metadata={
            "help": "whose context a training update computes; alternate draws one for each update, with the terms "
            "weighted so that the expected loss is that of both"
        },
    )
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
        self._scope = str(cfg.cluster_scope)
        if self._scope == "global":
            # In the task's state, which checkpoints keep: a resumed run has the same clusters.
            task.state.add_factory("target_bank", empty_bank)
        self.weights = {"contrastive": cfg.alpha, "cross": cfg.beta, "cross_aug": cfg.gamma}

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[torch.Tensor, int, dict]:
        """Return the loss summed over masked frames (nats), the number of these frames, and what is logged.

        The sample's ``negatives`` and ``negatives_aug`` (B, M, N) and ``kmeans_starts`` (U, R, K), where given, replace
        the draws from the batch's seed.
        """
        weights = self.term_weights(model)
        views = {"contexts": {TERMS[name][0] for name in weights}, "targets": self._target_views(weights)}
        output = model(**sample["net_input"], **views)
        objective = self.objective(model, output, sample, weights)
        sample_size = output["target"].size(0) * output["target"].size(1)
        terms = objective["terms"]
        extra = VIEWS if str(self.cfg.extra_losses_on) == "both" else (ORIGINAL,)
        diversity, penalty = (
            _weighted(
                weight * sample_size, torch.as_tensor(sum(value(output, view) for view in extra)).float() / len(extra)
            )
            for weight, value in (
                (self.cfg.diversity_weight, _diversity),
                (self.cfg.penalty_weight, lambda output, view: output["features_pen" + view]),
            )
        )
        loss = sum(weights[name] * term.loss for name, term in terms.items()) + diversity + penalty
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
            logged[f"frames_{name}"] = sample_size
        with record_function("ccc.signals"):
            logged |= self._signals(model, output, objective, sample["net_input"])
        return loss, sample_size, logged

    def _signals(
        self, model: Any, output: dict[str, Any], objective: dict[str, Any], waves: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Return the signals of health and each view's use of its codes, under names that reduce_metrics knows."""
        # Scaled similarities can be gamed: with all vectors the same, a near positive's logit is lower all the same.
        factor, temperature = self.cfg.scale_factor, model.logit_temp
        gamed = str(self.cfg.near_positives) == "scale_similarity"
        signals = batch_signals(
            output,
            objective,
            waves,
            temperature=temperature,
            near_weight=math.exp((factor - 1) / temperature) if gamed else factor,
            slow=not model.training or model.num_updates % SLOW_EVERY == 0,
        )
        usage = {USAGE + view: output["usage" + view].detach().clone() for view in VIEWS if "usage" + view in output}
        return {SIGNAL + name: value for name, value in signals.items()} | usage

    def term_weights(self, model: Any) -> dict[str, float]:
        """Return the terms that this batch computes, with their weights; terms of weight 0 are left out.

        With ``contexts: alternate`` a training update computes one view's context, drawn from the run's seed and the
        number of the update, in proportion to the weights of its terms. Dividing them by the probability of their draw
        keeps the expected loss. Validation always computes both.
        """
        weights = {name: weight for name, weight in self.weights.items() if weight > 0}
        contexts = str(self.cfg.contexts)
        if contexts == "both" or not model.training:
            return weights
        share = {
            view: sum(weight for name, weight in weights.items() if TERMS[name][0] == view) / sum(weights.values())
            for view in VIEWS
        }
        if contexts == "alternate":
            generator = generator_for(self.task.cfg.seed, "contexts", model.num_updates)
            drawn = ORIGINAL if float(torch.rand((), generator=generator)) < share[ORIGINAL] else AUGMENTED
            scale = 1 / share[drawn]
        else:
            drawn, scale = (ORIGINAL if contexts == "original" else AUGMENTED), 1.0
        return {name: weight * scale for name, weight in weights.items() if TERMS[name][0] == drawn}

    def _target_views(self, weights: dict[str, float]) -> set[str]:
        """Return the views whose targets the loss depends on: as positives, in the clustering, in the extra losses."""
        clustered = str(self.cfg.near_positives) == "remove" or self.cfg.scale_factor < 1
        other = clustered or "cross" in weights or str(self.cfg.extra_losses_on) == "both"
        return set(VIEWS) if other else {ORIGINAL}

    def objective(
        self, model: Any, output: dict[str, Any], sample: dict[str, Any], weights: dict[str, float] | None = None
    ) -> dict[str, Any]:
        """Draw negatives, cluster the targets and compute the terms that ``weights`` names (default: all three).

        Returns by the term's name ``terms``, ``logits`` (B, M, 1 + N) and their ``raw`` values before anything is
        weakened, and ``near_of`` (B, M, N); ``labels`` and ``labels_aug`` (B, M), ``near`` (B, M, N) of the original
        view, its ``negatives`` (B, M, N), ``equal`` codes (B, M, N) by view, and the number of ``clusters`` in each of
        the ``problems``.
        """
        seed = sample["net_input"].get("seed", 0)
        views = [view for view in VIEWS if "target" + view in output]
        negatives, near, equal = {}, {}, {}
        if self._scope == "global" and model.training:
            # A lost batch is noise: its process takes part, its targets are not kept.
            targets_VBMD = torch.stack([output["target" + view] for view in views]) * (not sample.get("lost", False))
            self._bank().add(targets_VBMD.flatten(0, 2), generator_for(seed, "bank"))
            self._bank().refit(model.num_updates)
        with record_function("ccc.clustering"):
            # Without the other view's targets nothing is weakened: there is nothing to cluster for.
            problems = output["target"].size(0) if self._scope == "utterance" else 1
            labels, clusters = ({}, 0) if len(views) < 2 else self._cluster(output, seed, sample.get("kmeans_starts"))
        with record_function("ccc.negatives_and_logits"):
            for view in views:
                codes = output["codes" + view]
                drawn = sample.get("negatives" + view)
                if drawn is None:
                    generator = generator_for(seed, "negatives" + view, device=codes.device)
                    drawn = sample_negatives(codes.size(0), codes.size(1), model.n_negatives, generator)
                negatives[view] = drawn
                near[view] = (
                    near_positives(labels[view], drawn) if labels else torch.zeros_like(drawn, dtype=torch.bool)
                )
                equal[view] = equal_codes(codes, drawn)
            logits, raw_logits, near_of = {}, {}, {}
            for name in TERMS if weights is None else weights:
                context, target = TERMS[name]
                raw = cosine_logits(
                    output["context" + context], output["target" + target], negatives[target], model.logit_temp
                )
                raw_logits[name], near_of[name] = raw, near[target]
                mode, factor = str(self.cfg.near_positives), self.cfg.scale_factor
                logits[name] = weigh_negatives(raw, near[target], equal[target], mode, factor)
            terms = {name: contrastive_term(values) for name, values in logits.items()}
        return {
            "terms": terms,
            "logits": logits,
            "raw": raw_logits,
            "near_of": near_of,
            "equal": equal,
            "problems": problems,
            **{"labels" + view: values for view, values in labels.items()},
            **{"near" + view: values for view, values in near.items()},
            "negatives": negatives[""],
            "clusters": clusters,
        }

    def clusters_of(self, output: dict[str, Any], seed: int) -> tuple[dict[str, torch.Tensor], int]:
        """Return each view's cluster labels (B, M) and the number K, as the loss has them; none of a single view."""
        return self._cluster(output, seed, None) if "target_aug" in output else ({}, 0)

    def _cluster(
        self, output: dict[str, Any], seed: int, starts: torch.Tensor | None
    ) -> tuple[dict[str, torch.Tensor], int]:
        """Cluster the targets of both views together within the scope; labels (B, M) of each view and the number K.

        Scope ``global`` clusters like ``batch`` until the bank has been clustered for the first time.
        """
        target_2BMD = torch.stack([output["target"], output["target_aug"]]).detach()
        _, utterances, frames, width = target_2BMD.shape
        centroids_KD = self._bank().centroids(target_2BMD.device) if self._scope == "global" else None
        if centroids_KD is not None:
            labels = nearest(target_2BMD.float().view(1, -1, width), centroids_KD.unsqueeze(0))
            clusters = len(centroids_KD)
        else:
            # One problem for each utterance, or a single one; within a problem the original view's points come first.
            apart = self._scope == "utterance"
            points_UPD = target_2BMD.transpose(0, 1).flatten(1, 2) if apart else target_2BMD.view(1, -1, width)
            if starts is None:
                clusters = cluster_count(frames, self.cfg.cluster_factor)
                starts = draw_starts(points_UPD, clusters, self.cfg.kmeans_restarts, generator_for(seed, "kmeans"))
            labels = cosine_kmeans(points_UPD, starts, self.cfg.kmeans_iterations)
            labels = labels.view(utterances, 2, frames).transpose(0, 1) if apart else labels
            clusters = starts.size(-1)
        original, augmented = labels.reshape(2, utterances, frames)
        return {"": original, "_aug": augmented}, clusters

    def _bank(self) -> TargetBank:
        cfg = self.cfg
        with one_line_errors():
            return TargetBank(
                self.task.state.target_bank,
                cfg.bank_size,
                cfg.bank_points,
                cfg.bank_clusters,
                cfg.bank_refit_updates,
                self.task.cfg.seed,
            )

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
        for key in ("loss", "loss_diversity", "loss_penalty"):
            metrics.log_scalar(key, total(key) / max(frames, 1) / math.log(2), frames, round=3)
        for name in TERMS:
            # A term that no batch computed is not shown, rather than shown as 0.
            if computed := total(f"frames_{name}"):
                metrics.log_scalar(f"loss_{name}", total(f"loss_{name}") / computed / math.log(2), computed, round=3)
                metrics.log_scalar(f"accuracy_{name}", total(f"correct_{name}") / computed, computed, round=4)
        for key in ("code_perplexity", "prob_perplexity", "temp", "clusters"):
            metrics.log_scalar(key, total(key) / batches, batches, round=3)
        log_signals(logs)
        share = total("near_positives") / max(total("negatives"), 1)
        metrics.log_scalar("near_positive_share", share, total("negatives"), round=4)
        metrics.log_scalar("ntokens", total("ntokens"))
        metrics.log_scalar("nsentences", total("nsentences"))


def _weighted(weight: float, value: torch.Tensor) -> torch.Tensor:
    """Multiply; a value of weight 0 is left out, for in fp16 it may be infinite, and 0 x inf is not a number."""
    return weight * value if weight else value.new_zeros(())


def _diversity(output: dict[str, Any], suffix: str) -> torch.Tensor:
    return (output["num_vars"] - output["prob_perplexity" + suffix]) / output["num_vars"]


def _check(cfg: CccCriterionConfig) -> None:
    context_weights = {"original": cfg.alpha + cfg.beta, "augmented": cfg.gamma}
    needed = {"both": [], "alternate": list(context_weights)}.get(str(cfg.contexts), [str(cfg.contexts)])
    if not sum(context_weights.values()) > 0:
        raise InputError("criterion.alpha, beta and gamma are all 0: at least one of the terms needs a weight")
    for view in needed:
        if not context_weights[view] > 0:
            raise InputError(
                f"criterion.contexts={cfg.contexts} computes the {view} view's context, whose terms have the weight 0; "
                f"raise criterion.{'gamma' if view == 'augmented' else 'alpha or beta'}"
            )
    for name in ("alpha", "beta", "gamma", "diversity_weight", "penalty_weight"):
        if getattr(cfg, name) < 0:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: a loss weight must not be negative")
    for name in ("cluster_factor", "kmeans_iterations", "kmeans_restarts", "bank_points", "bank_refit_updates"):
        if getattr(cfg, name) < 1:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must be a whole number of at least 1")
    if not 0 <= cfg.scale_factor <= 1:
        raise InputError(f"criterion.scale_factor={cfg.scale_factor}: must be between 0 (remove) and 1 (no influence)")
    if cfg.bank_clusters < 2:
        raise InputError(f"criterion.bank_clusters={cfg.bank_clusters}: must be a whole number of at least 2")
    least = POINTS_PER_CENTROID * cfg.bank_clusters
    if cfg.bank_size < least:
        raise InputError(
            f"criterion.bank_size={cfg.bank_size}: {cfg.bank_clusters} clusters need at least {least} targets "
            f"({POINTS_PER_CENTROID} each); raise bank_size or lower bank_clusters"
        )
    if str(cfg.cluster_scope) == "global":
        require_faiss()
