"""Settings of criterion `ccc`, and the ranges that they must be in; docs/method.md says what the terms are."""

from dataclasses import dataclass, field
from typing import List  # noqa: UP035  (omegaconf 2.0 does not know list[float])

from fairseq.dataclass import ChoiceEnum

from ccc_w2v.errors import InputError
from ccc_w2v.losses.bank import POINTS_PER_CENTROID, require_faiss
from ccc_w2v.losses.contrastive import NEAR_POSITIVE_MODES
from ccc_w2v.losses.negative_sampling import NEGATIVES, check_sampling
from ccc_w2v.losses.views import AUGMENTED, ORIGINAL
from ccc_w2v.settings.masked_prediction import MaskedPredictionConfig

CLUSTER_SCOPES = ("batch", "utterance", "global", "annotated")
CONTEXTS = ("both", ORIGINAL, AUGMENTED, "alternate")


@dataclass
class CccCriterionConfig(MaskedPredictionConfig):
    """The objective's settings; the defaults are the paper's."""

    alpha: float = field(default=1.0, metadata={"help": "weight of L_c: context and targets of the original, >= 0"})
    beta: float = field(default=0.5, metadata={"help": "weight of L_cross: original context, augmented targets, >= 0"})
    gamma: float = field(default=0.5, metadata={"help": "weight of L'_cross: augmented context, other targets, >= 0"})
    cluster_factor: int = field(default=16, metadata={"help": "masked frames per cluster, >= 1; K = max(2, M // it)"})
    cluster_scope: ChoiceEnum(CLUSTER_SCOPES) = field(  # type: ignore[valid-type]
        default="batch",
        metadata={
            "help": "targets that are clustered together: the local batch's, one utterance's, or a bank's; annotated: "
            "the clusters of a network that learns from task.annotations (semi-supervised)"
        },
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
    annotated_clusters: int = field(default=40, metadata={"help": "clusters of cluster_scope=annotated, >= 2"})
    annotated_hidden: int = field(default=128, metadata={"help": "hidden units of its network, >= 1"})
    annotated_pairs: int = field(default=4096, metadata={"help": "pairs of aligned frames drawn per batch, >= 1"})
    annotated_volume: float = field(
        default=0.01, metadata={"help": "weight of the volume of the memberships in the network's loss, >= 0"}
    )
    annotated_lr: float = field(default=1e-3, metadata={"help": "learning rate of the network (Adam), > 0"})
    annotated_start: int = field(
        default=500, metadata={"help": "updates that the network learns for while clusters are those of batch, >= 0"}
    )
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
    negatives: ChoiceEnum(NEGATIVES) = field(  # type: ignore[valid-type]
        default="uniform",
        metadata={
            "help": "how training draws negatives: uniformly, by negative_weights, or by weights that are learned"
        },
    )
    negative_weights: List[float] = field(  # noqa: UP006
        default_factory=lambda: [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 0.5],
        metadata={"help": "weights of the bins of cosine between targets, -1 to 1, >= 0; learned: only their number"},
    )
    negative_boost: float = field(
        default=4.0, metadata={"help": "weight of the bin that the learned policy has chosen, others have 1; > 0"}
    )
    negative_policy_lr: float = field(default=0.5, metadata={"help": "learning rate of that policy, > 0"})
    delta: float = field(
        default=0.0, metadata={"help": "weight of the masked prediction of a teacher's online clusters, >= 0"}
    )
    block_weight: float = field(
        default=0.0, metadata={"help": "weight of the block contrast, which pushes the clusters' means apart, >= 0"}
    )
    block_scale: float = field(
        default=0.2, metadata={"help": "factor of the block contrast's cosines (an inverse temperature), > 0"}
    )


def check_objective(cfg: CccCriterionConfig) -> None:
    """Raise InputError for settings out of their range, and for a scope whose package is not installed."""
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
    for name in ("alpha", "beta", "gamma", "diversity_weight", "penalty_weight", "block_weight", "delta"):
        if getattr(cfg, name) < 0:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: a loss weight must not be negative")
    counts = ("cluster_factor", "kmeans_iterations", "kmeans_restarts", "bank_points", "bank_refit_updates")
    for name in (*counts, "annotated_hidden", "annotated_pairs"):
        if getattr(cfg, name) < 1:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must be a whole number of at least 1")
    if not 0 <= cfg.scale_factor <= 1:
        raise InputError(f"criterion.scale_factor={cfg.scale_factor}: must be between 0 (remove) and 1 (no influence)")
    check_sampling(str(cfg.negatives), cfg.negative_weights, cfg.negative_boost, cfg.negative_policy_lr)
    if not cfg.block_scale > 0:
        raise InputError(f"criterion.block_scale={cfg.block_scale}: must be greater than 0")
    for name in ("bank_clusters", "annotated_clusters"):
        if getattr(cfg, name) < 2:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must be a whole number of at least 2")
    for name in ("annotated_volume", "annotated_start"):
        if getattr(cfg, name) < 0:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must not be negative")
    if not cfg.annotated_lr > 0:
        raise InputError(f"criterion.annotated_lr={cfg.annotated_lr}: must be greater than 0")
    least = POINTS_PER_CENTROID * cfg.bank_clusters
    if cfg.bank_size < least:
        raise InputError(
            f"criterion.bank_size={cfg.bank_size}: {cfg.bank_clusters} clusters need at least {least} targets "
            f"({POINTS_PER_CENTROID} each); raise bank_size or lower bank_clusters"
        )
    if str(cfg.cluster_scope) == "global":
        require_faiss()
