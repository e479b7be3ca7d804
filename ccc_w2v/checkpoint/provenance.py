"""What a checkpoint knows of its own making, as plain data: it travels in an export and fills the model card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ccc_w2v
from ccc_w2v.data.manifest import manifest_digest, read_manifest

_RECIPE = {
    "common": ("seed", "fp16", "bf16"),
    "dataset": ("max_tokens", "batch_size"),
    "distributed_training": ("distributed_world_size",),
    "optimization": ("max_update", "lr", "update_freq", "clip_norm", "sentence_avg"),
}


def provenance(state: dict[str, Any], cfg: dict[str, Any]) -> dict[str, Any]:
    """Collect updates, hours processed, objective, recipe and training manifest, each only where it is known.

    ``cfg`` is the checkpoint's configuration as plain data. A state that was exported before keeps what it says.
    """
    if "ccc_export" in state:
        return dict(state["ccc_export"])
    base = cfg["model"].get("w2v_args") or cfg
    known: dict[str, Any] = {"package": "ccc_w2v", "version": ccc_w2v.__version__}
    if history := state.get("optimizer_history"):
        known["updates"] = int(history[-1].get("num_updates", 0))
    if state.get("averaged"):
        known["weights"] = "the moving average of the model (teacher)"
    known["objective"] = _objective(base)
    known["recipe"] = _recipe(cfg)
    samples = (state.get("task_state") or {}).get("counts", {}).get("audio_samples")
    if samples:
        # The key that exported checkpoints have had from the start.
        known["hours_heard"] = samples / cfg["task"]["sample_rate"] / 3600
    manifest = _manifest(cfg)
    if manifest:
        known["manifest"] = manifest
    return known


def _objective(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return the plugin's own settings: all of its criterion's, and its task's augmentation."""
    objective = {}
    criterion = cfg.get("criterion") or {}
    if criterion.get("_name") in ("ccc", "capi"):
        objective.update({key: value for key, value in criterion.items() if key != "_name"})
    if cfg["task"].get("_name") == "ccc_pretraining":
        # A YAML file's path means nothing elsewhere; its name does.
        objective["augment"] = os.path.basename(str(cfg["task"].get("augment")))
    return objective


def _recipe(cfg: dict[str, Any]) -> dict[str, Any]:
    """How it was trained, by the names of fairseq's settings: batch, optimiser, schedule, precision, seed."""
    recipe = {}
    for section, names in _RECIPE.items():
        values = cfg.get(section) or {}
        recipe.update({f"{section}.{name}": values[name] for name in names if values.get(name) is not None})
    for section in ("optimizer", "lr_scheduler"):
        values = cfg.get(section) or {}
        recipe.update({f"{section}.{name}": values[name] for name in sorted(values) if values[name] is not None})
    return recipe


def _manifest(cfg: dict[str, Any]) -> dict[str, Any] | None:
    subset = (cfg.get("dataset") or {}).get("train_subset", "train")
    path = Path(str(cfg["task"].get("data"))) / f"{subset}.tsv"
    if not path.is_file():
        return None
    manifest = read_manifest(path)
    samples = int(manifest.samples.sum())
    return {
        "name": f"{path.parent.name}/{path.name}",
        "sha256": manifest_digest(path),
        "utterances": len(manifest),
        "hours": samples / cfg["task"]["sample_rate"] / 3600,
    }
