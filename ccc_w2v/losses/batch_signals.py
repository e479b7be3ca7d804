"""All signals of health of one batch, from what the model returned and the criterion computed of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ccc_w2v.losses.signals import (
    Signals,
    cluster_signals,
    code_signals,
    codebook_signals,
    frame_energies,
    logit_signals,
    loudness_signals,
    masked_values,
    mean_signal,
    rows_of,
    shift_signals,
    vector_signals,
    view_signals,
)

VIEWS = ("", "_aug")
# Eigenvalues make a GPU wait, and the waves are read from end to end: only at every such update, and in validation.
SLOW_EVERY = 50


@torch.no_grad()
def batch_signals(
    output: Mapping[str, Any],
    objective: Mapping[str, Any],
    waves: Mapping[str, Any],
    *,
    temperature: float,
    near_weight: float,
    slow: bool,
) -> Signals:
    """Return {name: (sum, count)} of what the batch has; a view that was not computed has no signals.

    ``objective`` is what CccCriterion.objective returns, ``waves`` the model's input. ``slow`` adds what is too slow
    for every update.
    """
    signals: Signals = {}
    for view in VIEWS:
        for name in ("context", "target"):
            if name + view in output:
                signals |= vector_signals(name + view, output[name + view], ranks=slow)
        if "usage" + view in output:
            signals |= codebook_signals(view, output["usage" + view], output["probability" + view])
            signals[f"feature_square{view}"] = mean_signal(output["features_pen" + view])
            signals[f"equal_code_share{view}"] = mean_signal(rows_of(objective["equal"][view]))
    codes_BMG = output["codes"]
    codes = output["usage"].size(-1)
    signals |= code_signals(codes_BMG, codes) | view_signals(dict(output))
    for term, raw in objective["raw"].items():
        measured = logit_signals(
            term,
            raw,
            objective["logits"][term],
            objective["near_of"][term],
            objective["terms"][term].loss,
            temperature=temperature,
            near_weight=near_weight,
        )
        for name, value in measured.items():
            signals[name] = signals[name] + value if name in signals else value
    if "labels" in objective:
        labels_VBM = torch.stack([objective["labels" + view] for view in VIEWS])
        apart = objective["problems"] > 1
        labels_UP = labels_VBM.transpose(0, 1).flatten(1) if apart else labels_VBM.view(1, -1)
        signals |= cluster_signals(labels_UP, objective["clusters"])
    mask_BT = output["mask_indices"]
    valid = waves["padding_mask"].logical_not().float().mean() if waves.get("padding_mask") is not None else 1.0
    signals["masked_share"] = mean_signal(mask_BT.float().mean() / valid)
    if slow:
        signals |= shift_signals(waves["source"], waves["source_aug"], mask_BT.size(1))
        energy_BT = frame_energies(waves["source"], mask_BT.size(1))
        signals |= loudness_signals(masked_values(energy_BT, mask_BT, codes_BMG.size(1)), codes_BMG, codes)
    return signals
