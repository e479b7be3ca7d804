"""`ccc`: alpha L_c + beta L_cross + gamma L'_cross + diversity + penalty (docs/method.md, section 5), one log line.

Letters: B utterances, M masked frames of each, D projected width, N negatives, V = 2 views, U clustering problems (one
for each utterance, or a single one), P points in each, K clusters, R starts.
"""

import math
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from fairseq.criterions import register_criterion
from torch.profiler import record_function

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError, one_line_errors
from ccc_w2v.losses.bank import TargetBank, empty_bank
from ccc_w2v.losses.batch_signals import SLOW_EVERY, batch_signals
from ccc_w2v.losses.block import block_contrast, joined_views
from ccc_w2v.losses.clustering import cluster_views, label_views
from ccc_w2v.losses.contrastive import contrastive_term, cosine_logits, weigh_negatives
from ccc_w2v.losses.extra import extra_losses
from ccc_w2v.losses.membership import Membership, masked_classes
from ccc_w2v.losses.negative_sampling import NegativePolicy, draw_by_bins, empty_policy, similarity_bins
from ccc_w2v.losses.negatives import equal_codes, near_positives, sample_negatives
from ccc_w2v.losses.objective import TERMS, Negatives, Objective, Term
from ccc_w2v.losses.views import AUGMENTED, ORIGINAL, SUFFIX, VIEWS, TwoViewOutput, View
from ccc_w2v.masked_prediction import HeadedCriterion, MaskedPrediction, Predicted
from ccc_w2v.settings.criterion import CccCriterionConfig, check_objective
from ccc_w2v.settings.membership import annotated_clusters
from ccc_w2v.training.objective_log import log_objective
from ccc_w2v.training.signal_log import SIGNAL, USAGE

T = TypeVar("T")


@register_criterion("ccc", dataclass=CccCriterionConfig)
class CccCriterion(HeadedCriterion):
    """The cross-contrastive loss of ccc-wav2vec 2.0 over the two views that the model returns."""

    def __init__(self, cfg: CccCriterionConfig, task: Any):
        super().__init__(task)
        check_objective(cfg)
        self.cfg = cfg
        self._scope = str(cfg.cluster_scope)
        if self._scope == "global":
            # In the task's state, which checkpoints keep: a resumed run has the same clusters.
            task.state.add_factory("target_bank", empty_bank)
        if str(cfg.negatives) == "learned":
            task.state.add_factory("negative_policy", lambda: empty_policy(len(cfg.negative_weights)))
        self.membership = annotated_clusters(cfg, task) if self._scope == "annotated" else None
        # Parameters of its own, so that there are none where it is off.
        self.prediction = MaskedPrediction(cfg, task) if cfg.delta else None
        self.weights = {"contrastive": cfg.alpha, "cross": cfg.beta, "cross_aug": cfg.gamma}

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[torch.Tensor, int, dict]:
        """Return the loss summed over masked frames (nats), the number of these frames, and what is logged.

        The sample's ``negatives`` and ``negatives_aug`` (B, M, N) and ``kmeans_starts`` (U, R, K), where given, replace
        the draws from the batch's seed.
        """
        weights = self.term_weights(model)
        contexts, targets = self._needed_views(weights)
        output: TwoViewOutput = model(
            **sample["net_input"], contexts=contexts, targets=targets, penalties=self._extra_views()
        )
        objective = self.objective(model, output, sample, weights)
        sample_size = math.prod(_needed(output.original, ORIGINAL).target_BMD.shape[:2])  # B x M
        weighed = [_needed(output.view(name), name) for name in self._extra_views()]
        # Per frame, as fairseq weighs them: its loss is a sum over frames.
        extra_weights = (weight * sample_size for weight in (self.cfg.diversity_weight, self.cfg.penalty_weight))
        diversity, penalty = extra_losses(weighed, output.codebook_size, *extra_weights)
        loss = sum(weights[name] * term.loss for name, term in objective.terms.items()) + diversity + penalty
        added = self._added_losses(output, objective, sample_size)
        predicted = self._predicted(output, sample, learn=model.training)
        if predicted is not None:
            added["prediction"] = self.cfg.delta * predicted.loss
        loss = sum(added.values(), loss)
        logged = {"loss": loss.detach(), "loss_diversity": diversity.detach(), "loss_penalty": penalty.detach()}
        logged |= self._logged(output, objective, sample)
        if "block" in added:
            logged["loss_block"] = added["block"].detach()
        if predicted is not None:
            logged |= predicted.signals
        if self.membership is not None:
            logged |= self._annotated(self.membership, model, output, sample)
        with record_function("ccc.signals"):
            logged |= self._signals(model, output, objective, sample["net_input"])
        return loss, sample_size, logged

    def _logged(self, output: TwoViewOutput, objective: Objective, sample: dict[str, Any]) -> dict[str, Any]:
        """Return what is logged of a batch beside its losses: sums, which log_objective divides."""
        original = _needed(output.original, ORIGINAL)
        sample_size = math.prod(original.target_BMD.shape[:2])
        logged = {
            "sample_size": sample_size,
            "ntokens": sample_size,
            "nsentences": sample["id"].numel(),
            "batches": 1,
            "code_perplexity": original.code_perplexity.detach(),
            "prob_perplexity": original.prob_perplexity.detach(),
            "temp": output.gumbel_temperature,
            "clusters": objective.clusters,
            "negatives": objective.original.drawn_BMN.numel(),
            "near_positives": objective.original.near_BMN.sum(),
            "audio_samples": sample["net_input"]["source"].numel() if self.training else 0,
        }
        for name, term in objective.terms.items():
            logged[f"loss_{name}"] = term.loss.detach()
            logged[f"correct_{name}"] = term.correct
            logged[f"frames_{name}"] = sample_size
        return logged

    def _extra_views(self) -> tuple[str, ...]:
        """Return the views whose diversity and feature penalty count."""
        return VIEWS if str(self.cfg.extra_losses_on) == "both" else (ORIGINAL,)

    def _added_losses(self, output: TwoViewOutput, objective: Objective, frames: int) -> dict[str, torch.Tensor]:
        """Return the losses that are off by default, weighted, for a number of masked frames."""
        if not self.cfg.block_weight:
            return {}
        targets = [_needed(output.view(name), name).target_BMD for name in VIEWS]
        labels = [_needed(objective.negatives(name).labels_BM, "clusters") for name in VIEWS]
        points_UPD, labels_UP = joined_views(targets, labels, apart=objective.problems > 1)
        block = block_contrast(points_UPD, labels_UP, objective.clusters, self.cfg.block_scale)
        return {"block": self.cfg.block_weight * frames * block}

    def _annotated(
        self, membership: Membership, model: Any, output: TwoViewOutput, sample: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Let the membership network observe the aligned masked frames of a training batch; return what is logged."""
        if not model.training:
            return {}
        seed, views = sample["net_input"].get("seed", 0), output.views().values()
        frames = _needed(output.original, ORIGINAL).target_BMD.size(1)
        classes_BM = masked_classes(sample["classes"], output.mask_BT, frames)
        points_PD = torch.cat([view.target_BMD.flatten(0, 1) for view in views])
        counts = not (sample.get("ignored", False) or sample.get("lost", False))
        with record_function("ccc.membership"):
            signals = membership.observe(
                points_PD, classes_BM.flatten().repeat(len(views)), generator_for(seed, "pairs"), counts=counts
            )
        return {SIGNAL + name: value for name, value in signals.items()}

    def _predicted(self, output: TwoViewOutput, sample: dict[str, Any], *, learn: bool) -> Predicted | None:
        """Predict the teacher's clusters at the masked frames of the views whose context was computed; None if off."""
        if self.prediction is None:
            return None
        hidden = {name: view.hidden_BME for name, view in output.views().items() if view.hidden_BME is not None}
        with record_function("ccc.prediction"):
            return self.prediction(hidden, output.mask_BT, sample, learn=learn)

    def _signals(
        self, model: Any, output: TwoViewOutput, objective: Objective, waves: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Return the signals of health and each view's use of its codes, under names that reduce_metrics knows."""
        # Scaled similarities can be gamed: with all vectors the same, a near positive's logit is lower all the same.
        # A near positive counts exp((factor - 1) / temperature) in the denominator if its cosine is 1.
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
        usage = {USAGE + SUFFIX[name]: view.usage_GV.detach().clone() for name, view in output.views().items()}
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
            view: sum(weight for name, weight in weights.items() if TERMS[name].context == view) / sum(weights.values())
            for view in VIEWS
        }
        if contexts == "alternate":
            generator = generator_for(self.task.cfg.seed, "contexts", model.num_updates)
            drawn = ORIGINAL if float(torch.rand((), generator=generator)) < share[ORIGINAL] else AUGMENTED
            scale = 1 / share[drawn]
        else:
            drawn, scale = contexts, 1.0
        return {name: weight * scale for name, weight in weights.items() if TERMS[name].context == drawn}

    def encoded_views(self, model: Any) -> tuple[int, int]:
        """Return how many views this batch's feature encoder has, and how many of them the Transformer."""
        contexts, targets = self._needed_views(self.term_weights(model))
        return len(contexts | targets), len(contexts)

    def _needed_views(self, weights: dict[str, float]) -> tuple[set[str], set[str]]:
        """Return the views whose contexts, and whose targets, the loss depends on.

        Targets as positives, in the clustering, in the extra losses.
        """
        clustered = str(self.cfg.near_positives) == "remove" or self.cfg.scale_factor < 1
        clustered = clustered or self.cfg.block_weight > 0
        other = clustered or "cross" in weights or str(self.cfg.extra_losses_on) == "both"
        return {TERMS[name].context for name in weights}, set(VIEWS) if other else {ORIGINAL}

    def objective(
        self, model: Any, output: TwoViewOutput, sample: dict[str, Any], weights: dict[str, float] | None = None
    ) -> Objective:
        """Draw negatives, cluster the targets and compute the terms that ``weights`` names (default: all three)."""
        seed = sample["net_input"].get("seed", 0)
        views = output.views()
        if self._scope == "global" and model.training:
            # A lost batch is noise: its process takes part, its targets are not kept.
            targets_VBMD = torch.stack([view.target_BMD for view in views.values()]) * (not sample.get("lost", False))
            self._bank().add(targets_VBMD.flatten(0, 2), generator_for(seed, "bank"))
            self._bank().refit(model.num_updates)
        with record_function("ccc.clustering"):
            labels, clusters = self.clusters_of(output, seed, sample.get("kmeans_starts"))
        with record_function("ccc.negatives_and_logits"):
            negatives = {
                name: self._negatives(model, name, view, sample, labels.get(name)) for name, view in views.items()
            }
            terms = {
                name: self._term(model, name, views, negatives) for name in (TERMS if weights is None else weights)
            }
        return Objective(
            terms=terms,
            original=negatives[ORIGINAL],
            augmented=negatives.get(AUGMENTED),
            clusters=clusters,
            problems=output.mask_BT.size(0) if self._scope == "utterance" else 1,
        )

    def _negatives(
        self, model: Any, name: str, view: View, sample: dict[str, Any], labels_BM: torch.Tensor | None
    ) -> Negatives:
        """Draw the negatives of a view's targets, or take the sample's, and tell which are near or equal."""
        codes_BMG = view.codes_BMG
        drawn_BMN = sample.get("negatives" + SUFFIX[name])
        if drawn_BMN is None:
            seed = sample["net_input"].get("seed", 0)
            generator = generator_for(seed, "negatives" + SUFFIX[name], device=codes_BMG.device)
            if str(self.cfg.negatives) == "uniform" or not model.training:
                drawn_BMN = sample_negatives(codes_BMG.size(0), codes_BMG.size(1), model.n_negatives, generator)
            else:
                policy = self.negative_policy()
                weights = self.cfg.negative_weights if policy is None else policy.weights()
                bins_BMM = similarity_bins(view.target_BMD, len(weights))
                drawn_BMN = draw_by_bins(bins_BMM, weights, model.n_negatives, generator)
        if labels_BM is None:
            near_BMN = torch.zeros_like(drawn_BMN, dtype=torch.bool)
        else:
            near_BMN = near_positives(labels_BM, drawn_BMN)
        return Negatives(drawn_BMN, near_BMN, equal_codes(codes_BMG, drawn_BMN), labels_BM)

    def negative_policy(self) -> NegativePolicy | None:
        """Return the policy of ``negatives: learned``, whose state the task's checkpoint keeps; else None."""
        if str(self.cfg.negatives) != "learned":
            return None
        state = self.task.state.negative_policy
        if len(state["preferences"]) != len(self.cfg.negative_weights):
            with one_line_errors():
                raise InputError(
                    f"criterion.negative_weights has {len(self.cfg.negative_weights)} bins: the run that is resumed "
                    f"here has {len(state['preferences'])}; set as many, or start another run in another folder"
                )
        return NegativePolicy(state, self.cfg.negative_boost, self.cfg.negative_policy_lr, self.task.cfg.seed)

    def _term(self, model: Any, name: str, views: dict[str, View], negatives: dict[str, Negatives]) -> Term:
        """Contrast the contexts of one view with the targets of a view."""
        of = TERMS[name]
        context_BMD, drawn = _needed(views[of.context].context_BMD, f"{of.context} context"), negatives[of.target]
        raw_BMC = cosine_logits(context_BMD, views[of.target].target_BMD, drawn.drawn_BMN, model.logit_temp)
        mode, factor = str(self.cfg.near_positives), self.cfg.scale_factor
        logits_BMC = weigh_negatives(raw_BMC, drawn.near_BMN, drawn.equal_BMN, mode, factor)
        result = contrastive_term(logits_BMC)
        return Term(of, raw_BMC, logits_BMC, result.loss, result.correct)

    def clusters_of(
        self, output: TwoViewOutput, seed: int, starts: torch.Tensor | None = None
    ) -> tuple[dict[str, torch.Tensor], int]:
        """Cluster the targets of both views together within the scope; labels (B, M) of each view and the number K.

        Scopes ``global`` and ``annotated`` cluster like ``batch`` until the bank has been clustered for the first time,
        or the network has learned for a while. Without the other view's targets nothing is weakened, and nothing is
        clustered: no labels, K = 0.
        """
        if output.original is None or output.augmented is None:
            return {}, 0
        target_VBMD = torch.stack([output.original.target_BMD, output.augmented.target_BMD]).detach()
        if self.membership is not None and self.membership.ready:
            labels_VBM = self.membership.labels(target_VBMD)
            return dict(zip(VIEWS, labels_VBM, strict=True)), self.cfg.annotated_clusters
        cfg, centroids_KD = self.cfg, None
        if self._scope == "global":
            centroids_KD = self._bank().centroids(target_VBMD.device)
        if centroids_KD is not None:
            labels_VBM, clusters = label_views(target_VBMD, centroids_KD), len(centroids_KD)
        else:
            labels_VBM, clusters = cluster_views(
                target_VBMD,
                cfg.kmeans_restarts if starts is None else starts,
                cfg.kmeans_iterations,
                cfg.cluster_factor,
                generator_for(seed, "kmeans"),
                apart=self._scope == "utterance",
            )
        return dict(zip(VIEWS, labels_VBM, strict=True)), clusters

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
        log_objective(list(logging_outputs))


def _needed(value: T | None, name: str) -> T:
    """Return what the model was asked to compute; that it did is ours to see to."""
    assert value is not None, f"the model did not compute: {name}"
    return value
