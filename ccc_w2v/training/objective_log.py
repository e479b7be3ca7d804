"""The objective's values as fairseq logs them: sums over sums, in bits, whatever shared the batch."""

from __future__ import annotations

import math
from typing import Any

from fairseq import utils
from fairseq.logging import metrics

from ccc_w2v.losses.objective import TERMS
from ccc_w2v.training.signal_log import log_signals


def log_objective(logs: list[dict[str, Any]]) -> None:
    """Log what criterion ccc returned of each batch: losses, accuracies, codebook, clusters and signals of health."""

    def total(key: str) -> Any:
        return utils.item(sum(log.get(key, 0) for log in logs))

    frames, batches = total("sample_size"), max(total("batches"), 1)
    for key in ("loss", "loss_diversity", "loss_penalty"):
        metrics.log_scalar(key, total(key) / max(frames, 1) / math.log(2), frames, round=3)
    if any("loss_block" in log for log in logs):
        metrics.log_scalar("loss_block", total("loss_block") / max(frames, 1) / math.log(2), frames, round=5)
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
