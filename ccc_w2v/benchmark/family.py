"""Steps of the options of docs/family.md, for `ccc-w2v benchmark step --family`: updates but for the model's optimiser.

What an option trains by itself makes its step: the online clustering, the teacher's average, the membership network.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from fairseq.dataclass.configs import EMAConfig
from fairseq.tasks.fairseq_task import StatefulContainer

from ccc_w2v.capi import CapiCriterion, CapiCriterionConfig
from ccc_w2v.criterion import CccCriterion
from ccc_w2v.losses.views import ORIGINAL
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.training.teacher import ScheduledEMA, teacher_frames

UPDATES = 100_000  # of the schedules
LABELS = 40  # phones or letters, of which one is none
# The settings of criterion ccc that each row differs in.
OPTIONS: dict[str, dict[str, Any]] = {
    "block_weight": {"block_weight": 20.0},
    "negatives_distance": {"negatives": "distance"},
    "negatives_learned": {"negatives": "learned"},
    "annotated": {"cluster_scope": "annotated", "annotated_start": 0},
}
CAPI = "capi"


def family_steps(bench: Any) -> dict[str, Callable[[], None]]:
    """Return a function for each option that runs a step of it on a benchmark's model and batch."""
    model, task = bench.model, _task(bench.model)
    steps = {name: _ccc_step(bench, CccCriterion(CccCriterionConfig(**set_), task)) for name, set_ in OPTIONS.items()}
    task.state.negative_policy["action"] = 0  # as after a validation
    capi = CapiCriterion(CapiCriterionConfig(contexts=ORIGINAL), task).to(bench.device)
    average = ScheduledEMA(model, EMAConfig(store_ema=True, ema_fp32=True), bench.device, capi.prediction.momentum)
    return {CAPI: _capi_step(bench, capi, average), **steps}


def _ccc_step(bench: Any, criterion: CccCriterion) -> Callable[[], None]:
    samples = bench.sample["net_input"]["source"].size(1)
    frames = int(bench.model._get_feat_extract_output_lengths(torch.tensor(samples)))
    drawn = torch.Generator().manual_seed(0)
    classes_BT = torch.randint(-1, LABELS - 1, (len(bench.sample["id"]), frames), generator=drawn).to(bench.device)
    sample = {**bench.sample, "classes": classes_BT}

    def step() -> None:
        bench.backward(bench.model, criterion(bench.model, sample)[0])
        if criterion.membership is not None:
            criterion.membership.step()

    return step


def _capi_step(bench: Any, criterion: CapiCriterion, average: ScheduledEMA) -> Callable[[], None]:
    def step() -> None:
        sample = {**bench.sample, **teacher_frames(average.get_model(), bench.sample["net_input"], 0)}
        bench.backward(bench.model, criterion(bench.model, sample)[0])
        criterion.zero_grad()
        criterion.prediction.step(1)
        average.step(bench.model, 2)

    return step


def _task(model: Any) -> Any:
    """Return what the criterions ask of their task, where there is no training."""
    cfg = SimpleNamespace(seed=1, max_update=UPDATES, store_ema=True, ema_fp32=True, fp16=False, bf16=False)
    cfg.annotations = "drawn at random"
    return SimpleNamespace(
        cfg=cfg,
        state=StatefulContainer(),
        encoder_width=model.cfg.encoder_embed_dim,
        encoder_layers=model.cfg.encoder_layers,
        target_width=model.project_q.out_features,
    )
