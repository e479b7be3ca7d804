"""A wav2vec_ctc of random weights, built through fairseq's classes and saved with the keys that its trainer saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fairseq import tasks
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig
from omegaconf import OmegaConf

# LibriSpeech's dictionary, in fairseq's order.
LETTERS = "|ETAONIHSRDLUMWCFGYPBVK'XJQZ"


def write_dictionary(folder: Path, symbols: str = LETTERS) -> None:
    """Write folder/dict.ltr.txt."""
    (folder / "dict.ltr.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")


def build_ctc(folder: Path, settings: Mapping[str, Any], *, normalize: bool = False) -> tuple[Any, Any, dict[str, Any]]:
    """Build fairseq's fine-tuning task and a random wav2vec_ctc for folder/dict.ltr.txt; returns task, model, cfg.

    ``settings`` are those of the wav2vec2 model inside. The weights do not depend on torch's global generator.
    """
    task_cfg = {"data": str(folder), "normalize": normalize, "tpu": False}
    if "seed" in AudioPretrainingConfig.__dataclass_fields__:  # not in fairseq 0.12.2
        task_cfg["seed"] = 1
    base = {
        "model": {**settings, "_name": "wav2vec2"},
        "task": {"_name": "audio_pretraining", **task_cfg},
        "criterion": None,
        "lr_scheduler": None,
    }
    task_cfg = {"_name": "audio_finetuning", **task_cfg, "labels": "ltr"}
    model_cfg: dict[str, Any] = {"_name": "wav2vec_ctc", "w2v_path": str(folder / "base.pt"), "w2v_args": base}
    model_cfg.update(normalize=normalize, data=str(folder), ddp_backend="legacy_ddp")
    cfg = OmegaConf.create(
        {"task": task_cfg, "model": model_cfg, "criterion": {"_name": "ctc", "post_process": "letter"}}
    )
    task = tasks.setup_task(cfg.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = task.build_model(cfg.model)
        # A random Transformer's frames are much alike: without this every frame of every wave has one best symbol.
        centre_logits(model)
    cfg.task = OmegaConf.create(OmegaConf.to_container(task.cfg, resolve=True, enum_to_str=True))
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return task, model.eval(), plain


def centre_logits(model: Any) -> None:
    """Set the output layer's bias so that each symbol's mean logit over a noise wave is zero."""
    with torch.no_grad():
        noise = 0.1 * torch.randn(1, 16000)
        logits_TBV = model.eval()(source=noise, padding_mask=None)["encoder_out"]
        model.w2v_encoder.proj.bias -= logits_TBV.mean(dim=(0, 1))


def trainer_state(task: Any, model: Any, cfg: dict[str, Any]) -> dict[str, Any]:
    """Return what fairseq's Trainer.state_dict saves, without an optimiser."""
    return {
        "args": None,
        "cfg": cfg,
        "model": model.state_dict(),
        "criterion": None,
        "optimizer_history": [
            {
                "criterion_name": "CtcCriterion",
                "optimizer_name": "FairseqAdam",
                "lr_scheduler_state": {},
                "num_updates": 7,
            }
        ],
        "task_state": task.state_dict(),
        "extra_state": {"metrics": [], "previous_training_time": 0.0},
    }
