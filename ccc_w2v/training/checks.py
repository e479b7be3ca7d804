"""Checks of a training's settings and files before fairseq begins, for every task that it trains beside this plugin.

Each mistake is one InputError; without these checks it would show as an assertion or an index error, or after hours.
"""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccc_w2v.data.audio import audio_rate
from ccc_w2v.data.left_out import name_left_out
from ccc_w2v.data.manifest import Manifest, read_manifest
from ccc_w2v.data.slices import segment_of, slice_of
from ccc_w2v.data.streams import is_stream_source
from ccc_w2v.errors import InputError
from ccc_w2v.text_files import text_lines

# Headers that are read at the start of a fine-tuning, spread over the manifest: a second on a local disk.
HEADERS = 2000
SOCKET_PATH = 107  # bytes that Linux has for the path of a socket (unix(7): 108 with the zero behind it)
# "path<TAB>samples" is fairseq's manifest too; these tasks of its own read one.
MANIFEST_TASKS = ("audio_pretraining", "audio_finetuning")


def check_run(cfg: Any) -> None:
    """Raise InputError for a setting or file that this training cannot start with."""
    check_complete(cfg)
    check_devices(cfg)
    check_sharded_memory(cfg.distributed_training)
    check_sockets(cfg.dataset.num_workers)
    check_paths(cfg)
    check_save_dir(cfg.checkpoint.save_dir)
    if cfg.task._name in MANIFEST_TASKS and not _value(cfg.task, "multi_corpus_keys"):
        check_manifests(cfg)


def check_complete(cfg: Any) -> None:
    """Raise InputError where a part of the configuration, or a value that it leaves to the user, is missing."""
    for part in ("task", "model", "criterion", "optimizer", "lr_scheduler"):
        if not _value(cfg, part) or "_name" not in cfg[part]:
            raise InputError(
                f"the configuration has no {part} (no {part}._name); check --config-dir and --config-name, since "
                "fairseq does not report a configuration that it cannot find"
            )
    for part in cfg:
        missing = [name for name in (cfg[part] if hasattr(cfg[part], "keys") else ()) if _is_missing(cfg[part], name)]
        if missing:
            raise InputError(f"{part}.{missing[0]} has no value: give {part}.{missing[0]}=... on the command line")
    if not cfg.dataset.max_tokens and not cfg.dataset.batch_size:
        raise InputError("a batch has no size: set dataset.max_tokens (in samples) or dataset.batch_size")


def _value(section: Any, name: str) -> Any:
    """Return a setting, None where this fairseq does not know it: omegaconf 2.0 raises even for get."""
    return section[name] if name in section else None  # noqa: SIM401


def _is_missing(section: Any, name: str) -> bool:
    # The YAML's own "???", which reading would turn into an exception.
    return section._get_node(name) is not None and section._get_node(name)._value() == "???"


def has_gpu(cfg: Any) -> bool:
    """Tell whether this run computes on a GPU."""
    return torch.cuda.is_available() and not cfg.common.cpu


def check_devices(cfg: Any) -> None:
    """Raise InputError for a precision or a number of processes that this machine cannot run."""
    common, launch = cfg.common, cfg.distributed_training
    if not has_gpu(cfg):
        why = "common.cpu=true" if torch.cuda.is_available() else "this machine has none that torch can use"
        if common.fp16 and not common.memory_efficient_fp16:
            raise InputError(f"common.fp16=true needs a GPU, and {why}; set common.bf16=true or common.fp16=false")
        if common.amp:
            raise InputError(f"common.amp=true needs a GPU, and {why}; set common.bf16=true or common.amp=false")
        if launch.distributed_no_spawn and launch.distributed_world_size > 1 and launch.distributed_backend == "nccl":
            raise InputError(
                f"distributed_training.distributed_backend=nccl needs GPUs, and {why}; set it to gloo, as "
                "recipes/launch/one_node.sh does"
            )
    gpus = torch.cuda.device_count()
    alone = not launch.distributed_no_spawn and not launch.distributed_init_method
    launched = "RANK" in os.environ or "SLURM_JOB_ID" in os.environ
    if alone and not launched and launch.distributed_world_size > max(gpus, 1):
        raise InputError(
            f"distributed_training.distributed_world_size={launch.distributed_world_size}, but this machine has {gpus} "
            "GPUs; lower it (ccc-w2v plan keeps the audio per update), or start processes on CPU cores with "
            "recipes/launch/one_node.sh"
        )


def check_sharded_memory(launch: Any) -> None:
    """Raise InputError for FSDP, which fairseq takes from a package that no longer fits, and for ZeRO without it."""
    if launch.ddp_backend == "fully_sharded":
        raise InputError(
            "distributed_training.ddp_backend=fully_sharded: fairseq takes FSDP from fairscale, whose last release "
            "fails without a GPU and has not been tried on one; use legacy_ddp, with "
            "distributed_training.zero_sharding=os to share the optimiser's memory (docs/scale.md)"
        )
    if launch.zero_sharding == "os" and importlib.util.find_spec("fairscale") is None:
        raise InputError(
            "distributed_training.zero_sharding=os needs fairscale, which is not installed; pip install "
            "--no-build-isolation fairscale==0.4.13"
        )


def check_sockets(workers: int) -> None:
    """Raise InputError where data workers could not hand on their batches: the training would wait for ever.

    torch passes tensors between processes through sockets named <temporary folder>/pymp-xxxxxxxx/listener-xxxxxxxx.
    """
    folder = tempfile.gettempdir()
    longest = SOCKET_PATH - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
    if workers and len(os.fsencode(folder)) > longest:
        raise InputError(
            f"temporary folder {folder}: too long a name for the sockets of dataset.num_workers={workers} (at most "
            f"{longest} bytes); set TMPDIR to another folder, or dataset.num_workers=0"
        )


def check_paths(cfg: Any) -> None:
    """Raise InputError for a folder or checkpoint of the configuration that does not exist."""
    data = _value(cfg.task, "data")
    if data and not is_stream_source(data) and not os.path.isdir(data):
        problem = "is a file" if os.path.exists(data) else "there is no such folder"
        raise InputError(f"task.data={data}: {problem}; expected the folder of {cfg.dataset.train_subset}.tsv")
    restore = cfg.checkpoint.restore_file
    checkpoints = {
        "model.w2v_path": _value(cfg.model, "w2v_path"),
        "checkpoint.finetune_from_model": cfg.checkpoint.finetune_from_model,
        "checkpoint.restore_file": restore if os.path.dirname(restore or "") else None,
    }
    random = _value(cfg.model, "no_pretrained_weights")
    for name, path in checkpoints.items():
        if path and "://" not in path and not os.path.isfile(path) and not (random and name == "model.w2v_path"):
            raise InputError(f"{name}={path}: no such checkpoint; give the path of a .pt file")


def check_save_dir(folder: str) -> None:
    """Raise InputError unless the folder of the checkpoints exists or can be made, and files can be written there."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"checkpoint.save_dir={os.path.abspath(folder)}: cannot be written ({error.strerror}); set it, or "
            "hydra.run.dir, to a folder that can be written"
        ) from error


def check_manifests(cfg: Any) -> None:
    """Raise InputError for a manifest, dictionary or label file of fairseq's own audio tasks that does not fit."""
    task, labels = cfg.task, _value(cfg.task, "labels")
    if task._name == "audio_finetuning":
        if not labels:
            raise InputError("task.labels has no value; expected the suffix of the transcripts, for example ltr")
        folder = _value(task, "target_dictionary") or task.data
        dictionary = Path(folder) / f"dict.{labels}.txt"
        if not dictionary.is_file():
            raise InputError(
                f"{dictionary}: no such dictionary; copy manifests/dict.ltr.txt for letters, or write one with "
                "ccc-w2v sentencepiece"
            )
    subsets = [cfg.dataset.train_subset]
    if not cfg.dataset.disable_validation:
        subsets += cfg.dataset.valid_subset.split(",")
    for subset in subsets:
        manifest = read_manifest(Path(task.data) / f"{subset}.tsv")
        if labels:
            check_label_count(manifest, labels)
        check_whole_files(manifest)
        check_headers(manifest, task.sample_rate)
        check_lengths(manifest, cfg)


def check_lengths(manifest: Manifest, cfg: Any) -> None:
    """Warn of utterances that fairseq's own audio tasks leave out; InputError where those are all."""
    longest = cfg.task.max_sample_size
    lengths = np.minimum(manifest.samples, longest) if longest else manifest.samples
    bounds = {
        f"shorter than task.min_sample_size={cfg.task.min_sample_size}": (cfg.task.min_sample_size or 0, math.inf),
        f"longer than dataset.max_tokens={cfg.dataset.max_tokens}": (0, cfg.dataset.max_tokens or math.inf),
    }
    for why, (least, most) in bounds.items():
        left_out = lengths[(lengths < least) | (lengths > most)]
        name_left_out(manifest.source, left_out, lengths, cfg.task.sample_rate, why, accepted=True)
        if len(left_out) == len(lengths):
            raise InputError(f"{manifest.source}: all {len(lengths)} utterances are {why}: change that setting")


def check_label_count(manifest: Manifest, labels: str) -> None:
    """Raise InputError unless a label file lies beside a manifest, with a line for each of its utterances."""
    path = Path(manifest.source).with_suffix(f".{labels}")
    if not path.is_file():
        raise InputError(f"{path}: no such transcripts; write one line for each of {manifest.source}'s utterances")
    count = sum(1 for _ in text_lines(path, "label file", "a line for each utterance"))
    if count != len(manifest):
        raise InputError(
            f"{path}: {count} lines, but {manifest.source} has {len(manifest)} utterances; write the labels again"
        )


def check_whole_files(manifest: Manifest) -> None:
    """Raise InputError for a segment of a long recording or a slice of a tar: fairseq would take both for a zip."""
    for entry in manifest.entries:
        if segment_of(entry.path):
            raise InputError(
                f"{manifest.where(entry)}: {entry.path}: a segment of a long recording, which pre-training reads and "
                "fairseq's fine-tuning does not; cut the transcribed ones into files with ccc-w2v manifest "
                "--transcripts (columns start and end)"
            )
        if (part := slice_of(entry.path)) and not part.file.endswith(".zip"):
            raise InputError(
                f"{manifest.where(entry)}: {entry.path}: is in a tar, which pre-training reads and fairseq's "
                "fine-tuning does not; train on the files, or pack them with ccc-w2v pack --format zip"
            )


def check_headers(manifest: Manifest, sample_rate: int, most: int = HEADERS) -> None:
    """Raise InputError for the first of up to ``most`` files, evenly spread, that is unreadable or of another rate."""
    for entry in manifest.entries[:: max(1, len(manifest) // most)]:
        path, where = manifest.audio_path(entry), manifest.where(entry)
        rate = audio_rate(path, where=where)
        if rate != sample_rate:
            raise InputError(
                f"{where}: {path}: sample rate {rate} Hz, expected task.sample_rate={sample_rate} Hz; "
                "resample the corpus"
            )
