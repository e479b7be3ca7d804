"""The membership network of scope `annotated`, as a criterion's and a task's settings want it."""

from __future__ import annotations

from typing import Any

from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from ccc_w2v.losses.membership import Membership, MembershipSettings


def annotated_clusters(cfg: Any, task: Any) -> Membership:
    """Return the network, as it begins; raises InputError where the training has no alignments."""
    if not getattr(task.cfg, "annotations", None):
        raise InputError(
            "criterion.cluster_scope=annotated learns from aligned transcripts: set task.annotations to what ccc-w2v "
            "align has written of the training manifest"
        )
    settings = MembershipSettings(
        cfg.annotated_clusters,
        cfg.annotated_hidden,
        cfg.annotated_pairs,
        cfg.annotated_volume,
        cfg.annotated_lr,
        cfg.annotated_start,
    )
    return Membership(task.target_width, settings, generator_for(task.cfg.seed, "membership"))
