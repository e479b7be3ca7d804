"""One arm with one seed, from initial weights to transcripts of every condition, in steps that are done once.

Trainings are processes of fairseq-hydra-train, which resume from their checkpoints; everything else happens here. What
is written below <out>/<arm>/seed<N>/: pretrain/ and finetune_<labels>/ (fairseq's runs, a log each), plain.pt,
<decoder>_<labels>/<condition>/ and probe/<condition>/ (ref.trn, hyp.trn), chain.json (compute, commit), written last.
Arms with a warm start share <out>/warm_start/seed<N>.pt.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ccc_w2v.comparison.settings import BEAM, GREEDY, PROBE, Arm, Settings, key_overrides
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.run_folder import Output, claim, keep_record
from ccc_w2v.training.checkpoint_files import copy_whole
from ccc_w2v.training.log import parse_line

# What a device adds to both YAMLs: a GPU computes in half precision, and would wait for speech read in its own process.
DEVICE_OVERRIDES: dict[str, dict[str, Any]] = {"cpu": {}, "cuda": {"common.fp16": True, "dataset.num_workers": 4}}

Progress = Callable[[int], None]  # is told how many updates of a chain are done


def chain_updates(settings: Settings, arm: Arm) -> int:
    """Return the updates of all trainings of a chain, in passes of the network: what its time depends on."""
    finetuning = sum(settings.finetuning_updates(labels) for labels in settings.labels)
    return settings.encoder_passes(arm) + finetuning


def run_chain(settings: Settings, arm: Arm, seed: int, commit: str, progress: Progress) -> Path:
    """Do what a chain lacks; returns its folder. Raises InputError for a step that fails, naming its log."""
    folder = settings.folder(arm, seed)
    claim_chain(folder, arm)
    if settings.finished(arm, seed) is not None:
        progress(chain_updates(settings, arm))
        return folder
    trained = (folder / "chain.json").is_file()  # and conditions have been added since
    passes = settings.encoder_passes(arm)
    plain, seconds = _pretrained(settings, arm, seed, lambda done: progress(round(done * arm.passes)))
    done, finetuning_seconds = passes, {}
    progress(done)
    for labels in settings.labels:
        finetuning_seconds[labels] = _finetuned(settings, folder, plain, labels, seed, _beyond(progress, done))
        done += settings.finetuning_updates(labels)
        _decoded(settings, folder, labels)
        progress(done)
    _probed(settings, folder, plain, seed, again=trained)
    if trained:
        return folder
    record = {
        "arm": arm.name,
        "seed": seed,
        "commit": commit,
        "encoder_passes": passes,
        "pretraining_seconds": seconds,
        "finetuning_seconds": finetuning_seconds,
    }
    write_whole(folder / "chain.json", json.dumps(record, indent=1) + "\n")
    return folder


def claim_chain(folder: Path, arm: Arm) -> None:
    """Let a chain's folder hold one arm as arms.yaml has it; raises InputError where it was made of another."""
    record = folder / "arm.json"
    made = {name: value for name, value in dataclasses.asdict(arm).items() if name != "title"}
    output = Output(folder, made, record, [record])
    if not claim(output):
        folder.mkdir(parents=True, exist_ok=True)
        keep_record(output)


def _beyond(progress: Progress, done: int) -> Progress:
    """Return what counts the updates of one training after ``done`` earlier ones."""
    return lambda count: progress(done + count)


def _pretrained(settings: Settings, arm: Arm, seed: int, progress: Progress) -> tuple[Path, float]:
    """Return the arm's weights as a plain checkpoint, and the seconds that its updates took."""
    from ccc_w2v.checkpoint.plain import export_plain
    from ccc_w2v.warm_start import write_start

    folder = settings.folder(arm, seed)
    plain, last = folder / "plain.pt", folder / "pretrain/checkpoints/checkpoint_last.pt"
    overrides = pretraining_overrides(settings, arm, seed)
    if arm.warm_start:
        write_warm_start(settings, seed)
    if not arm.passes:
        if arm.warm_start and not plain.is_file():
            copy_whole(settings.warm_start(seed), plain)
        if not plain.is_file():
            write_start(settings.recipe / "config/pretrain.yaml", overrides, plain)
        return plain, 0.0
    _train(folder / "pretrain", settings.recipe / "config", "pretrain", overrides, settings, progress)
    if not plain.is_file():
        export_plain(last, plain)
    return plain, _training_seconds(last)


def write_warm_start(settings: Settings, seed: int) -> Path:
    """Return the weights that the arms with a warm start begin with, written by the first chain that needs them."""
    from ccc_w2v.warm_start import WarmStartSettings, write_start

    path = settings.warm_start(seed)
    if not path.is_file():
        config = settings.recipe / "config/pretrain.yaml"
        scale = {"task.data": str(settings.data), "common.seed": seed, "optimization.max_update": 1}
        overrides = key_overrides(config, {**scale, **settings.scale.pretrain})
        manifest = read_manifest(settings.data / "unlabelled.tsv")
        # Chains of one seed may come here together: each writes the same, whole.
        chosen = WarmStartSettings(seed=seed, **settings.scale.warm_start)
        write_start(config, overrides, path, manifest, chosen, overwrite=True)
    return path


def pretraining_overrides(settings: Settings, arm: Arm, seed: int) -> list[str]:
    """Return the overrides of an arm's pre-training: its scale's, then its own differences."""
    updates = max(settings.pretraining_updates(arm), 1)
    values = {
        "task.data": str(settings.data),
        "common.seed": seed,
        "optimization.max_update": updates,
        "lr_scheduler.warmup_updates": updates // 10,
        # From 2 to 0.5 in half of the updates, however many there are.
        "model.latent_temp": [2.0, 0.5, round(0.25 ** (2 / updates), 6)],
        "checkpoint.save_interval_updates": settings.scale.save,
        "dataset.validate_interval_updates": settings.scale.save,
        **DEVICE_OVERRIDES[settings.device],
        **settings.scale.pretrain,
        **arm.overrides,
    }
    if arm.warm_start:
        values["checkpoint.finetune_from_model"] = str(settings.warm_start(seed))
    return key_overrides(settings.recipe / "config/pretrain.yaml", values)


def _finetuned(settings: Settings, folder: Path, plain: Path, labels: str, seed: int, progress: Progress) -> float:
    """Fine-tune the plain checkpoint on a labelled subset; returns the seconds that its updates took."""
    run = folder / f"finetune_{labels}"
    overrides = finetuning_overrides(settings, plain, labels, seed)
    _train(run, settings.recipe / "config", "finetune", overrides, settings, progress)
    return _training_seconds(run / "checkpoints/checkpoint_last.pt")


def finetuning_overrides(settings: Settings, plain: Path, labels: str, seed: int) -> list[str]:
    """Return the overrides of a fine-tuning, the same for all arms."""
    values = {
        "task.data": str(settings.data),
        "common.seed": seed,
        "dataset.train_subset": f"train_{labels}",
        "optimization.max_update": settings.finetuning_updates(labels),
        "checkpoint.save_interval_updates": settings.scale.save,
        "dataset.validate_interval_updates": settings.scale.save,
        "model.w2v_path": str(plain),
        **DEVICE_OVERRIDES[settings.device],
        **settings.scale.finetune,
    }
    return key_overrides(settings.recipe / "config/finetune.yaml", values)


def _decoded(settings: Settings, folder: Path, labels: str) -> None:
    """Decode the test set under every condition by every decoder."""
    from ccc_w2v.decode.beam import BeamSettings, beam_search
    from ccc_w2v.decode.ctc_model import load_ctc
    from ccc_w2v.decode.load import made_faster
    from ccc_w2v.decode.transcribe import DecodingOptions, decode_into, decoding_identity

    checkpoint = folder / f"finetune_{labels}/checkpoints/checkpoint_best.pt"
    model = load_ctc(checkpoint)
    model.network.to(settings.device)
    model = made_faster(model)
    searches: dict[str, BeamSettings | None] = {GREEDY: None}
    if settings.language_model is not None:
        searches[BEAM] = BeamSettings(**vars(settings.language_model))
    for condition, path in settings.conditions.items():
        manifest = read_manifest(path)
        for decoder, search in searches.items():
            decode_into(
                folder / f"{decoder}_{labels}" / condition,
                model,
                manifest,
                decoding_identity(model, [checkpoint], manifest, search),
                DecodingOptions(search=beam_search(model, search) if search else None),
            )


def _probed(settings: Settings, folder: Path, plain: Path, seed: int, *, again: bool) -> None:
    """Train a probe on the plain checkpoint and measure it under every condition; its features are thrown away.

    With ``again`` one of fewer conditions is replaced.
    """
    from ccc_w2v.probe.ctc_head import ProbeSettings
    from ccc_w2v.probe.run_probe import run_probe

    chosen = dict(settings.scale.probe)
    train = settings.data / f"{chosen.pop('train')}.tsv"
    dev, out = settings.data / "dev.tsv", folder / PROBE
    probe = ProbeSettings(seed=seed, **chosen)
    run_probe(plain, train, dev, settings.conditions, out, probe, device=settings.device, overwrite=again)
    shutil.rmtree(out / "features", ignore_errors=True)


def _train(folder: Path, config: Path, name: str, overrides: list[str], settings: Settings, progress: Progress) -> None:
    """Run one training to its end, from its last checkpoint if it has one; all that it prints goes to train.log."""
    marker, log_path = folder / ".done", folder / "train.log"
    if marker.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(Path(sys.executable).with_name("fairseq-hydra-train")),
        *("--config-dir", str(config), "--config-name", name),
        f"common.user_dir={Path(__file__).resolve().parents[1]}",
        f"hydra.run.dir={folder}",
        *overrides,
    ]
    if settings.device == "cpu":
        command.append("common.cpu=true")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        open(log_path, "a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            preexec_fn=die_with_parent,
        ) as process,
    ):
        lines: list[str] = []
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            lines = [*lines[-20:], line.strip()]
            if (parsed := parse_line(line)) and "num_updates" in parsed[1]:
                progress(int(parsed[1]["num_updates"]))
    if process.returncode:
        said = next((text for text in lines if text.startswith("error: ")), lines[-1] if lines else "nothing printed")
        raise InputError(f"{log_path}: the training ended with exit code {process.returncode} ({said:.200})")
    marker.touch()


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it is gone, however that one was killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _training_seconds(checkpoint: Path) -> float:
    """Return the seconds that a training has run, resumptions together, without what a kill lost."""
    from ccc_w2v.checkpoint.read import load_checkpoint

    state: dict[str, Any] = load_checkpoint(checkpoint)
    return round(float(state["extra_state"]["previous_training_time"]), 1)
