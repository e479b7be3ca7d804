"""Settings of masked prediction (CAPI, arXiv 2502.08769), and what it needs of the rest of the training."""

from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from ccc_w2v.errors import InputError

MOMENTUM_SCHEDULES = ("cosine", "constant")


@dataclass
class MaskedPredictionConfig(FairseqDataclass):
    """Settings of masked prediction; the defaults are CAPI's, but for the number of prototypes."""

    prototypes: int = field(default=256, metadata={"help": "online clusters, >= 2; a dozen frames of a batch for each"})
    sinkhorn_iterations: int = field(default=3, metadata={"help": "iterations of Sinkhorn-Knopp, >= 1"})
    target_temperature: float = field(default=0.06, metadata={"help": "temperature of the soft clusters, > 0"})
    clustering_temperature: float = field(default=0.12, metadata={"help": "temperature of the clustering's loss, > 0"})
    student_temperature: float = field(default=0.12, metadata={"help": "temperature of the student's softmax, > 0"})
    clustering_lr: float = field(default=5e-4, metadata={"help": "peak learning rate of the online clustering, > 0"})
    momentum_schedule: ChoiceEnum(MOMENTUM_SCHEDULES) = field(  # type: ignore[valid-type]
        default="cosine",
        metadata={
            "help": "the teacher's momentum: from 1 to ema.ema_decay in the warm-up, then towards 1 by a cosine; or "
            "ema.ema_decay throughout"
        },
    )
    schedule_warmup: float = field(
        default=0.1, metadata={"help": "share of optimization.max_update that warms up clustering_lr and momentum"}
    )
    schedule_truncate: float = field(
        default=0.8, metadata={"help": "share of the half cosine that the schedules reach at their end, 0 to 1"}
    )
    teacher_layer: int = field(
        default=0, metadata={"help": "layer whose frames of the teacher are clustered, from 1; 0: the output"}
    )


def check_prediction(cfg: MaskedPredictionConfig, task: Any) -> None:
    """Raise InputError for settings out of their range, and where the training keeps no teacher."""
    for name in ("target_temperature", "clustering_temperature", "student_temperature", "clustering_lr"):
        if not getattr(cfg, name) > 0:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must be greater than 0")
    for name in ("schedule_warmup", "schedule_truncate"):
        if not 0 <= getattr(cfg, name) <= 1:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must be between 0 and 1")
    for name, least in (("prototypes", 2), ("sinkhorn_iterations", 1)):
        if getattr(cfg, name) < least:
            raise InputError(f"criterion.{name}={getattr(cfg, name)}: must be a whole number of at least {least}")
    if not 0 <= cfg.teacher_layer <= task.encoder_layers:
        raise InputError(
            f"criterion.teacher_layer={cfg.teacher_layer}: the model has layers 1 to {task.encoder_layers}, and 0 "
            "stands for its output"
        )
    if not task.cfg.store_ema:
        raise InputError("masked prediction needs a teacher, fairseq's average of the model: set ema.store_ema=true")
    if (task.cfg.fp16 or task.cfg.bf16) and not task.cfg.ema_fp32:
        raise InputError("the teacher's small steps are lost in half precision: set ema.ema_fp32=true")
    if not task.cfg.max_update > 0:
        raise InputError("the schedules of masked prediction need a length: set optimization.max_update")
