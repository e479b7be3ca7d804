"""What decodes: a fine-tuned checkpoint of fairseq (one, or the average of several) or a transformers folder."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig, OmegaConf, open_dict

import ccc_w2v
from ccc_w2v.checkpoint.dictionary import held_dictionary, read_dictionary
from ccc_w2v.checkpoint.evaluated import parse_conv_layers
from ccc_w2v.checkpoint.plain import (
    PRETRAINED_MODELS,
    build_model,
    receptive_field,
)
from ccc_w2v.checkpoint.read import load_checkpoint
from ccc_w2v.compat import setting
from ccc_w2v.compat_half import check_half_convolutions
from ccc_w2v.errors import InputError

BLANK = "<s>"  # fairseq's audio_finetuning uses the beginning-of-sentence symbol as CTC blank
POST_PROCESSES = ("letter", "sentencepiece")
PRETRAINING_TASKS = ("ccc_pretraining", "audio_pretraining")
# fairseq's names: after an epoch, and within one after a number of updates.
_EPOCH_CHECKPOINT, _UPDATE_CHECKPOINT = re.compile(r"checkpoint(\d+)\.pt"), re.compile(r"checkpoint_\d+_(\d+)\.pt")


@dataclass(frozen=True)
class CtcModel:
    """A CTC network in eval mode, its dictionary's symbols by index, and what its audio must look like.

    ``frame_samples`` lie between the starts of two frames. ``pads``: padding leaves an utterance's frames as they are;
    it does not where the feature encoder normalises each channel over time (group norm, the base models), unless
    padded_norm.py has changed that. ``whole_norm``: it normalises over the whole recording.
    """

    network: BaseFairseqModel
    labels: tuple[str, ...]
    blank: int
    sample_rate: int
    normalize: bool
    post_process: str
    min_samples: int
    frame_samples: int
    pads: bool
    whole_norm: bool = False

    @property
    def boundary(self) -> str:
        """What parts two words: a symbol after each (letters), or the first sign of a word's first piece."""
        return "|" if self.post_process == "letter" else "\u2581"


def load_ctc(
    checkpoint_path: str | Path,
    data_dir: str | Path | None = None,
    *,
    average_last: int = 0,
    sample_audio: Sequence[str | Path] = (),
) -> CtcModel:
    """Load a wav2vec_ctc checkpoint of fairseq's audio_finetuning or a folder of Wav2Vec2ForCTC, on the CPU.

    With ``average_last``, ``checkpoint_path`` is a folder of checkpoints (or one in it), of which the tensors of the
    last so many are averaged; see checkpoint_files. ``sample_audio``: recordings on which a transformers folder's
    outputs are compared with those of the model made from it.

    The dictionary is the one in the checkpoint (``ccc_dictionary``, else the task's state), else
    ``data_dir``/dict.<labels>.txt. A checkpoint without its base model's configuration needs the base model's file.

    Raises InputError for a checkpoint that is unreadable or of another kind, for a base model or dictionary that cannot
    be found, and for tensors or a dictionary that do not fit.
    """
    check_half_convolutions()
    if _is_huggingface(checkpoint_path) and not average_last:
        from ccc_w2v.checkpoint.from_huggingface import import_huggingface

        state = import_huggingface(checkpoint_path, sample_audio)[0].plain
        state["cfg"] = OmegaConf.create(state["cfg"])
    else:
        files = checkpoint_files(checkpoint_path, average_last)
        checkpoint_path = files[-1]
        state = load_checkpoint(checkpoint_path)
        if average_last:
            state["model"] = average_tensors(files)
    cfg = _check_kind(state, checkpoint_path)
    dictionary = _find_dictionary(state, cfg, data_dir, checkpoint_path)
    projection = state["model"].get("w2v_encoder.proj.weight")
    outputs = None if projection is None else len(projection)
    if outputs != len(dictionary) or BLANK not in dictionary.indices:
        raise InputError(
            f"{checkpoint_path}: the output layer has {outputs} symbols, the dictionary {len(dictionary)}; "
            f"expected equal numbers and {BLANK} among the symbols; use the dictionary of the fine-tuning"
        )
    state.update(args=None, cfg=cfg, task_state={"target_dictionary": dictionary})
    network, _ = build_model(checkpoint_path, state)
    base = cfg.model.w2v_args.model
    layers = parse_conv_layers(base.conv_feature_layers)
    return CtcModel(
        network=network,
        labels=tuple(dictionary.symbols),
        blank=dictionary.index(BLANK),
        sample_rate=int(cfg.task.sample_rate),
        normalize=bool(cfg.task.normalize),
        post_process=_post_process(cfg, checkpoint_path),
        min_samples=receptive_field(layers),
        frame_samples=math.prod(stride for _, _, stride in layers),
        pads=setting(base, "extractor_mode") == "layer_norm",
        whole_norm=setting(base, "extractor_mode") != "layer_norm",
    )


def _is_huggingface(path: str | Path) -> bool:
    return (Path(path) / "config.json").is_file()


def checkpoint_files(path: str | Path, average_last: int = 0) -> list[Path]:
    """Return the files that load_ctc reads: one checkpoint, all of a transformers folder, or the last to average.

    The last are by update where the folder holds checkpoints of updates (checkpoint_3_12000.pt), else by epoch
    (checkpoint3.pt). Raises InputError where the folder holds too few of them, and for a folder without either.
    """
    path = Path(path)
    if not average_last:
        if not path.is_dir():
            return [path]
        if not _is_huggingface(path):
            raise InputError(f"{path}: a folder without config.json; name a checkpoint in it, or average its last ones")
        return sorted(file for file in path.iterdir() if file.is_file())
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of checkpoints")
    checkpoints: dict[int, Path] = {}
    for pattern in (_UPDATE_CHECKPOINT, _EPOCH_CHECKPOINT):
        checkpoints = {int(match[1]): file for file in folder.iterdir() if (match := pattern.fullmatch(file.name))}
        if checkpoints:
            break
    if len(checkpoints) < average_last:
        raise InputError(
            f"{folder}: holds {len(checkpoints)} checkpoints of epochs or updates, --average-last needs {average_last}"
            "; train with checkpoint.no_epoch_checkpoints=false or checkpoint.save_interval_updates, or average fewer"
        )
    return [checkpoints[number] for number in sorted(checkpoints)[-average_last:]]


def average_tensors(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the mean of the checkpoints' model tensors, summed in double precision.

    Raises InputError as load_checkpoint does, and for checkpoints with other tensors than the first.
    """
    sums: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for file in files:
        tensors = load_checkpoint(file)["model"]
        if not sums:
            dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
            sums = {name: torch.zeros(tensor.shape, dtype=torch.float64) for name, tensor in tensors.items()}
        if {name: tensor.shape for name, tensor in tensors.items()} != {
            name: tensor.shape for name, tensor in sums.items()
        }:
            raise InputError(f"{file}: other tensors than in {files[0]}; only checkpoints of one run can be averaged")
        for name, tensor in tensors.items():
            sums[name] += tensor
    return {name: (total / len(files)).to(dtypes[name]) for name, total in sums.items()}


def _check_kind(state: dict[str, Any], path: str | Path) -> DictConfig:
    cfg = state["cfg"]
    model, task = (setting(cfg, key) for key in ("model._name", "task._name"))
    if (model, task) != ("wav2vec_ctc", "audio_finetuning"):
        raise InputError(
            f"{path}: holds model {model!r} of task {task!r}, expected a fine-tuned wav2vec_ctc of audio_finetuning"
        )
    if setting(cfg, "model.w2v_args") is None:
        base_path = setting(cfg, "model.w2v_path")
        if not base_path or not Path(base_path).is_file():
            raise InputError(
                f"{path}: lacks its base model's configuration (model.w2v_args), and the base model {base_path} "
                "is no file; put it back there or export the checkpoint where it was trained"
            )
        with open_dict(cfg):
            cfg.model.w2v_args = OmegaConf.to_container(load_checkpoint(base_path)["cfg"], resolve=False)
    model, task = (setting(cfg, f"model.w2v_args.{key}._name") for key in ("model", "task"))
    if model not in PRETRAINED_MODELS or task not in PRETRAINING_TASKS:
        raise InputError(
            f"{path}: its base is model {model!r} of task {task!r}, expected one of {', '.join(PRETRAINED_MODELS)} "
            f"of {' or '.join(PRETRAINING_TASKS)}"
        )
    if model.startswith("ccc_") or task.startswith("ccc_"):
        ccc_w2v.register()
    return cfg


def _find_dictionary(state: dict[str, Any], cfg: DictConfig, data_dir: str | Path | None, path: str | Path) -> Any:
    dictionary = held_dictionary(state)
    if dictionary is not None:
        return dictionary
    name = f"dict.{cfg.task.labels}.txt"
    if data_dir is None or not (Path(data_dir) / name).is_file():
        raise InputError(f"{path}: holds no dictionary, and {name} is not in {data_dir}; pass the folder that has it")
    return read_dictionary(Path(data_dir) / name)


def _post_process(cfg: DictConfig, path: str | Path) -> str:
    criterion = setting(cfg, "criterion")
    kind = "letter" if criterion is None else setting(criterion, "post_process") or "letter"
    if kind not in POST_PROCESSES:
        raise InputError(f"{path}: criterion.post_process is {kind!r}, expected {' or '.join(POST_PROCESSES)}")
    return kind
