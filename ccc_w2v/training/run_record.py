"""A run's folder explains itself: config.yaml, and in run.json how each start of the run was made.

The settings as fairseq resolved them, the code's commit, package versions, checksums of the manifests, seed, plan,
devices: with the log, signals.jsonl, verdicts.jsonl and TensorBoard beside them a later reader needs nothing else.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

import ccc_w2v
from ccc_w2v.data.manifest import manifest_digest
from ccc_w2v.data.mixture import read_mixture
from ccc_w2v.data.sources import source_of
from ccc_w2v.data.streams import is_stream_source, stream_place
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole
from ccc_w2v.training.health.history import folder_of_run, read_verdicts

logger = logging.getLogger(__name__)

RECORD, CONFIG = "run.json", "config.yaml"
PACKAGES = (
    "torch",
    "torchaudio",
    "fairseq",
    "fairseq-fixed",
    "numpy",
    "omegaconf",
    "hydra-core",
    "faiss-cpu",
    "faiss-gpu",
)
MANIFEST_SETTINGS = ("noise_manifest", "music_manifest", "babble_manifest", "rir_manifest")


@functools.cache
def describe_runs() -> None:
    """Let each start of a training, fine-tuning included, write what it is made from, once its checkpoint is read."""
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint

    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough: Any) -> Any:
        loaded = load(cfg, trainer, **passthrough)
        if trainer.is_data_parallel_master:
            folder = folder_of_run(cfg.save_dir)
            describe = getattr(trainer.task, "describe", functools.partial(plan_of, trainer.cfg))
            try:
                write_start(folder, trainer.cfg, describe(), trainer.get_num_updates())
            except OSError as error:
                # A run is worth more than its description.
                logger.warning(f"{folder / RECORD}: cannot be written ({error.strerror})")
        return loaded

    checkpoint_utils.load_checkpoint = load_checkpoint


def plan_of(cfg: Any) -> str:
    """Return the plan line of a training of fairseq's own tasks: processes, batch, updates, start, checkpoints."""
    batch = f"up to {cfg.dataset.max_tokens} samples" if cfg.dataset.max_tokens else f"{cfg.dataset.batch_size} items"
    accumulated = cfg.optimization.update_freq[0]
    start = getattr(cfg.model, "w2v_path", None)
    names = {part: getattr(getattr(cfg, part), "_name", None) for part in ("task", "criterion")}
    return (
        f"plan: {cfg.distributed_training.distributed_world_size} process(es), task {names['task']}, criterion "
        f"{names['criterion']}, {batch} in a batch, {accumulated} batch(es) per update and process, "
        f"{cfg.optimization.max_update} updates{f', from {start}' if start else ''}, checkpoints in "
        f"{os.path.abspath(cfg.checkpoint.save_dir)}"
    )


def write_start(folder: Path, cfg: Any, plan: str, update: int) -> None:
    """Add a start after ``update`` updates to run.json and write the resolved settings to config.yaml."""
    settings: Any = OmegaConf.to_container(OmegaConf.create(cfg), resolve=True)
    write_whole(folder / CONFIG, "# What this run was last started with, resolved.\n" + OmegaConf.to_yaml(settings))
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "after_update": update,
        "command": sys.argv,
        "plan": plan,
        "seed": settings["common"]["seed"],
        "code": code_version(),
        "versions": versions(),
        "devices": devices(settings["distributed_training"]["distributed_world_size"]),
        "manifests": manifests(settings),
    }
    write_whole(folder / RECORD, json.dumps({"starts": [*read_starts(folder), start]}, indent=2) + "\n")


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """Return how a run was started, oldest first; none where nothing says so."""
    try:
        return list(json.loads((folder / RECORD).read_text(encoding="utf-8"))["starts"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def code_version() -> dict[str, Any]:
    """Return the package's version and, of a checkout, its commit and whether its tracked files have been changed."""
    code: dict[str, Any] = {"ccc_w2v": ccc_w2v.__version__}
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        code["commit"] = _git(root, "rev-parse", "HEAD")
        code["changed"] = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return code


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a training's numbers, where they are installed."""
    known = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


def devices(processes: int) -> dict[str, Any]:
    """Return how many processes run on what."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"processes": processes, "device": device, "cuda": torch.version.cuda if torch.cuda.is_available() else None}


def manifests(settings: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every file that decides a run and that its settings name.

    Manifests, their labels and dictionary, the augmentation's lists and pipeline, the pre-trained checkpoint.
    """
    task, dataset = settings["task"], settings["dataset"]
    folder, labels = task.get("data"), task.get("labels")
    splits = [split for split in (dataset["train_subset"], *(dataset.get("valid_subset") or "").split(",")) if split]
    paths = [_listing(folder, split, dataset["train_subset"]) for split in splits] if isinstance(folder, str) else []
    if paths and isinstance(labels, str):
        paths += [path.with_suffix(f".{labels}") for path in paths] + [Path(folder) / f"dict.{labels}.txt"]
    paths += [Path(task[name]) for name in (*MANIFEST_SETTINGS, "augment", "mixture") if task.get(name)]
    if task.get("mixture") and Path(task["mixture"]).is_file():
        paths += [_local(corpus.manifest) for corpus in read_mixture(task["mixture"]).corpora]
    if task.get("multi_corpus_keys") and isinstance(folder, str):
        paths += [Path(folder) / f"{part.partition(':')[2].strip()}.tsv" for part in dataset["train_subset"].split(",")]
    if (settings.get("model") or {}).get("w2v_path"):
        paths.append(Path(settings["model"]["w2v_path"]))
    files = [path for path in dict.fromkeys(paths) if path.is_file()]
    return {str(path): manifest_digest(path) if path.suffix == ".tsv" else sha256(path) for path in files}


def _listing(folder: str, split: str, training_subset: str) -> Path:
    """Return the manifest that a split of task.data is, or that its stream became."""
    try:
        return _local(source_of(folder, split, training_subset))
    except InputError:  # said where the split is read
        return Path(folder) / f"{split}.tsv"


def _local(source: str | Path) -> Path:
    return stream_place(str(source)) if is_stream_source(source) else Path(source)


def summary(folder: Path) -> dict[str, str]:
    """Return what a reader elsewhere needs of a run: code, versions, seed, devices, data, verdict; no paths.

    Empty for a folder without run.json.
    """
    starts = read_starts(folder)
    if not starts:
        return {}
    last = starts[-1]
    code, device = last["code"], last["devices"]
    commit = f", commit {code['commit']}{' with changes' if code.get('changed') else ''}" if code.get("commit") else ""
    lines = {
        "starts": f"{len(starts)}, after updates {', '.join(str(start['after_update']) for start in starts)}",
        "code": f"ccc_w2v {code['ccc_w2v']}{commit}",
        "versions": ", ".join(f"{name} {version}" for name, version in last["versions"].items()),
        "seed": str(last["seed"]),
        "devices": f"{device['processes']} process(es) on {device['device']}",
        "data": ", ".join(f"{Path(path).name} (SHA-256 {digest[:12]})" for path, digest in last["manifests"].items()),
    }
    verdicts = read_verdicts(folder)
    if verdicts:
        final = verdicts[-1]
        findings = "; ".join(finding["sentence"] for finding in final["findings"])
        lines["health"] = f"{final['status']} after update {final['update']}{f' ({findings})' if findings else ''}"
    return lines
