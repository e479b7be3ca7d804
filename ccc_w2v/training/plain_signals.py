"""What fairseq's own wav2vec criterion logs, under the names that the rules of health and the plots know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NAMES = {
    "loss_0": "loss_contrastive",
    "loss_1": "loss_diversity",
    "loss_2": "loss_penalty",
    "accuracy": "accuracy_contrastive",
}
PERPLEXITIES = ("code_perplexity", "prob_perplexity")


def as_ours(values: Mapping[str, Any], model: Any) -> dict[str, float]:
    """Return the values by our names, with perplexities as shares of all codes and the distance from chance in bits.

    Empty for the values of another criterion. Chance counts all negatives, those that are masked out included.
    """
    if "loss_0" not in values:
        return {}
    ours = {name: float(values[theirs]) for theirs, name in NAMES.items() if theirs in values}
    ours["below_chance_contrastive"] = math.log2(1 + model.n_negatives) - ours["loss_contrastive"]
    codes = model.quantizer.num_vars * model.quantizer.groups
    return ours | {f"{name}_share": float(values[name]) / codes for name in PERPLEXITIES if name in values}
