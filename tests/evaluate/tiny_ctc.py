"""A tiny wav2vec_ctc checkpoint, built through fairseq's classes and saved with the keys that its trainer saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, tasks
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig
from omegaconf import OmegaConf

from ccc_w2v.compat import load_checkpoint
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import read_manifest
from tests.fake_corpora import write_corpus, write_labels
from tests.tiny_models import TINY

SAMPLES = [8000, 9600, 8000, 12345, 8000, 9600]
WORDS = ["THE CAT", "A HAT", "SAT", "THAT IS THE HAT", "HE", "IT IS"]


def write_test_set(folder: Path) -> Path:
    """Write six recordings of four lengths with transcripts and a dictionary; returns the manifest's path."""
    manifest = write_corpus(folder, SAMPLES, name="test")
    write_labels(manifest, WORDS)
    return manifest


def read_waves(manifest: Path) -> list[torch.Tensor]:
    """Read a manifest's recordings."""
    listed = read_manifest(manifest)
    return [read_audio(listed.audio_path(entry), 16000) for entry in listed.entries]


def raw_state(path: Path) -> dict[str, Any]:
    """Return a checkpoint file's content as it is."""
    load_checkpoint(path)  # allows fairseq's Dictionary
    return torch.load(path, weights_only=True)


def build_ctc(folder: Path, *, normalize: bool = False, **settings: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Build fairseq's fine-tuning task and a random wav2vec_ctc for folder/dict.ltr.txt; returns task, model, cfg."""
    task_cfg = {"data": str(folder), "normalize": normalize, "tpu": False}
    if "seed" in AudioPretrainingConfig.__dataclass_fields__:  # not in fairseq 0.12.2
        task_cfg["seed"] = 1
    base = {
        "model": {"_name": "wav2vec2", **TINY, **settings},
        "task": {"_name": "audio_pretraining", **task_cfg},
        "criterion": None,
        "lr_scheduler": None,
    }
    task_cfg = {"_name": "audio_finetuning", **task_cfg, "labels": "ltr"}
    model_cfg = {"_name": "wav2vec_ctc", "w2v_path": str(folder / "base.pt"), "w2v_args": base}
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
    return task, model.eval(), OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


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


def save(state: dict[str, Any], path: Path) -> Path:
    """Save a state as fairseq saves it."""
    checkpoint_utils.torch_persistent_save(state, str(path))
    return path
