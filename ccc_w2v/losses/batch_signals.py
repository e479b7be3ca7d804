"""All signals of health of one batch, from what the model returned and the criterion computed of it.

Letters: B utterances, M masked frames of each, T frames, G codebook groups, V views, U clustering problems, P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ccc_w2v.losses.objective import Objective
from ccc_w2v.losses.signals import (
    Signals,
    added,
    cluster_signals,
    code_signals,
    codebook_signals,
    frame_energies,
    joined,
    logit_signals,
    loudness_signals,
    masked_values,
    mean_signal,
    rows_of,
    shift_signals,
    vector_signals,
    view_signals,
)
from ccc_w2v.losses.views import ORIGINAL, SUFFIX, TwoViewOutput

# Eigenvalues make a GPU wait, and the waves are read from end to end: only at every such update, and in validation.
SLOW_EVERY = 50


@torch.no_grad()
def batch_signals(
    output: TwoViewOutput,
    objective: Objective,
    waves: Mapping[str, Any],
    *,
    temperature: float,
    near_weight: float,
    slow: bool,
) -> dict[str, torch.Tensor]:
    """Return {name: (sum, count)}, tensors (2,), of what the batch has; a view that was not computed has no signals.

    ``waves`` is the model's input. ``slow`` adds what is too slow for every update.
    """
    signals: Signals = {}
    views = output.views()
    for name, view in views.items():
        suffix = SUFFIX[name]
        if view.context_BMD is not None:
            signals |= vector_signals("context" + suffix, view.context_BMD, ranks=slow)
        signals |= vector_signals("target" + suffix, view.target_BMD, ranks=slow)
        signals |= codebook_signals(suffix, view.usage_GV, view.probability_GV)
        signals[f"feature_square{suffix}"] = mean_signal(view.feature_penalty)
        signals[f"equal_code_share{suffix}"] = mean_signal(rows_of(objective.negatives(name).equal_BMN))
    original = views[ORIGINAL]
    codes_BMG, codes = original.codes_BMG, original.usage_GV.size(-1)
    signals |= code_signals(codes_BMG, codes) | view_signals(output)
    for name, term in objective.terms.items():
        measured = logit_signals(
            name,
            term.raw_BMC,
            term.logits_BMC,
            objective.negatives(term.views.target).near_BMN,
            term.loss,
            temperature=temperature,
            near_weight=near_weight,
        )
        for signal, value in measured.items():
            # Sums and counts of what the terms share, such as the negatives that are left, add up.
            signals[signal] = added(signals[signal], value) if signal in signals else value
    labels = [objective.negatives(name).labels_BM for name in views]
    clustered = [labels_BM for labels_BM in labels if labels_BM is not None]
    if clustered:
        labels_VBM = torch.stack(clustered)
        apart = objective.problems > 1
        # As they were clustered: (B, V x M) each utterance alone, or all in one (1, V x B x M).
        labels_UP = labels_VBM.transpose(0, 1).flatten(1) if apart else labels_VBM.view(1, -1)
        signals |= cluster_signals(labels_UP, objective.clusters)
    mask_BT = output.mask_BT
    valid = waves["padding_mask"].logical_not().float().mean() if waves.get("padding_mask") is not None else 1.0
    signals["masked_share"] = mean_signal(mask_BT.float().mean() / valid)
    if slow:
        signals |= shift_signals(waves["source"], waves["source_aug"], mask_BT.size(1))
        energy_BT = frame_energies(waves["source"], mask_BT.size(1))
        signals |= loudness_signals(masked_values(energy_BT, mask_BT, codes_BMG.size(1)), codes_BMG, codes)
    return joined(signals)
