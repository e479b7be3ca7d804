"""Checkpoints as fairseq's trainer saves them, of tiny random models, and recordings to run them on."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from fairseq.criterions.ctc import CtcCriterionConfig
from fairseq.data.dictionary import Dictionary
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig
from fairseq.tasks.audio_finetuning import AudioFinetuningConfig
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig
from omegaconf import OmegaConf

from tests.fake_corpora import RATE, speech_like
from tests.tiny_models import TINY, tiny_fairseq

GONE = "/gone/with/the/machine"
LETTERS = "|ETAONIHSRDLU'"
STYLES = {
    "base": {},
    "large": {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True},
}
OBJECTIVE = {"alpha": 1.0, "cluster_factor": 16, "scale_factor": 0.3, "near_positives": "scale_similarity"}


def pretrained_state(style: str = "base", **settings: Any) -> dict[str, Any]:
    """A checkpoint of ccc pre-training: fairseq's own model under our names, with our keys beside fairseq's."""
    model = {**_defaults(Wav2Vec2Config), **TINY, **STYLES[style], **settings, "_name": "ccc_wav2vec2"}
    task = {
        **_defaults(AudioPretrainingConfig),
        "_name": "ccc_pretraining",
        "data": GONE,
        "normalize": style == "large",
    }
    task.update(augment=f"{GONE}/augment.yaml", noise_manifest=f"{GONE}/noise.tsv", save_dir=GONE, world_size=64)
    criterion = {"_name": "ccc", **OBJECTIVE, "diversity_weight": 0.2, "penalty_weight": 5.0}
    state = _state({**_run(), "model": model, "task": task, "criterion": criterion}, updates=1000)
    state["model"] = _randomized(tiny_fairseq(seed=0, **STYLES[style], **settings)).state_dict()
    state["task_state"] = {"counts": {"audio_samples": RATE * 7200, "bad_audio": 0}}
    return state


def finetuned_state(style: str = "base", letters: str = LETTERS, **settings: Any) -> dict[str, Any]:
    """A checkpoint of fairseq's audio_finetuning over the above, as it is saved: base configuration inside."""
    base = pretrained_state(style)
    model = {**_defaults(Wav2Vec2CtcConfig), "mask_prob": 0.5, "apply_mask": True, **settings, "_name": "wav2vec_ctc"}
    model.update(w2v_path=f"{GONE}/base.pt", data=GONE, normalize=style == "large", ddp_backend="legacy_ddp")
    model["w2v_args"] = {**base["cfg"], "criterion": None, "lr_scheduler": None}
    task = {**_defaults(AudioFinetuningConfig), "_name": "audio_finetuning", "data": GONE, "labels": "ltr"}
    task.update(normalize=style == "large")
    criterion = {
        **_defaults(CtcCriterionConfig),
        "_name": "ctc",
        "zero_infinity": True,
        "wer_lexicon": f"{GONE}/lexicon",
    }
    state = _state({**_run(), "model": model, "task": task, "criterion": criterion}, updates=50)
    dictionary = Dictionary()
    for count, letter in enumerate(letters, start=10):
        dictionary.add_symbol(letter, n=count)
    state["task_state"] = {"target_dictionary": dictionary}
    pretraining_only = ("quantizer.", "project_q.", "final_proj.")
    kept = {name: tensor for name, tensor in base["model"].items() if not name.startswith(pretraining_only)}
    state["model"] = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in kept.items()}
    head = torch.nn.Linear(TINY["encoder_embed_dim"], len(dictionary))
    state["model"].update(
        {f"w2v_encoder.proj.{name}": tensor for name, tensor in _randomized(head).state_dict().items()}
    )
    return state


def _state(cfg: dict[str, Any], updates: int) -> dict[str, Any]:
    history = {"criterion_name": "X", "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": updates}
    return {
        "args": None,
        "cfg": cfg,
        "criterion": None,
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 3}, "previous_training_time": 1.0},
        "last_optimizer_state": {"state": {0: torch.zeros(3)}},
    }


def _run() -> dict[str, Any]:
    sections = {}
    for field in dataclasses.fields(FairseqConfig):
        config_class = field.default if isinstance(field.default, type) else type(field.default)
        sections[field.name] = _defaults(config_class) if dataclasses.is_dataclass(config_class) else None
    sections["common"].update(user_dir=GONE, tensorboard_logdir=GONE, wandb_project="ours", seed=1, tpu=False)
    sections["checkpoint"].update(save_dir=GONE, restore_file=f"{GONE}/x.pt", finetune_from_model=f"{GONE}/y.pt")
    sections["optimization"].update(lr=[0.0005], max_update=400_000)
    sections.update(optimizer={"_name": "adam", "lr": [0.0005]}, lr_scheduler={"_name": "polynomial_decay"})
    sections["job_logging_cfg"] = {"handlers": {"file": {"filename": f"{GONE}/train.log"}}}
    return sections


def _defaults(config_class: type) -> dict[str, Any]:
    """A dataclass's defaults as the trainer saves them, less what only the whole configuration can resolve."""
    values = OmegaConf.to_container(OmegaConf.structured(config_class), resolve=False, enum_to_str=True)
    return {key: value for key, value in values.items() if not str(value).startswith("${")}


def _randomized(module: torch.nn.Module) -> torch.nn.Module:
    """Move every parameter off its initial value: a norm of ones and a bias of zeros hide a mistake."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 0.3 if parameter.dim() == 1 else 0.05
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


class Payload:
    """Unpickling it would write a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Return a function that writes a state to a checkpoint file of its own folder."""

    def write(state: dict[str, Any]) -> Path:
        path = tmp_path / "run" / "checkpoint_best.pt"
        path.parent.mkdir(exist_ok=True)
        torch.save(state, path)
        return path

    return write


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """Three recordings, of an odd, an even and a short length."""
    paths = []
    for seed, samples in enumerate((16001, 12000, 7000)):
        paths.append(tmp_path / f"speech{seed}.wav")
        soundfile.write(paths[-1], speech_like(samples, seed), RATE, subtype="PCM_16")
    return paths


def run_fresh(code: str, *arguments: object, cwd: Path) -> str:
    """Run code in a new interpreter that cannot import ccc_w2v and cannot reach the network; returns its stdout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    code = f"import sys; sys.modules['ccc_w2v'] = None\n{code}"
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
