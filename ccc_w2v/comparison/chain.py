"""One arm with one seed, from initial weights to transcripts of every condition, in steps that are done once.

Trainings are processes of fairseq-hydra-train, which resume from their checkpoints; everything else happens here. What
is written below <out>/<arm>/seed<N>/: pretrain/ and finetune_<labels>/ (fairseq's runs, a log each; where a scale has
several fine-tunings, finetune_<labels>/<choice>/; finetune_<labels>_again/ for one that stayed on the plateau),
plain.pt, <decoder>_<labels>/<condition>/ and probe/<condition>/ (ref.trn, hyp.trn), chain.json (compute, choices,
commit), written last. Arms with a warm start share <out>/warm_start/seed<N>.pt.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ccc_w2v.comparison.finetuning import finetune
from ccc_w2v.comparison.settings import BEAM, GREEDY, PROBE, Arm, Settings, arm_record, key_overrides
from ccc_w2v.comparison.training import DEVICE_OVERRIDES, Progress, beyond, end_of, run_training
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole
from ccc_w2v.run_folder import Output, claim, keep_record
from ccc_w2v.training.checkpoint_files import copy_whole


def chain_updates(settings: Settings, arm: Arm) -> int:
    """Return the updates of all trainings of a chain, in passes of the network: what its time depends on."""
    return settings.encoder_passes(arm) + sum(map(settings.all_finetuning_updates, settings.labels))


def run_chain(settings: Settings, arm: Arm, seed: int, commit: str, progress: Progress) -> Path:
    """Do what a chain lacks; returns its folder. Raises InputError for a step that fails, naming its log."""
    folder = settings.folder(arm, seed)
    claim_chain(folder, arm)
    if settings.finished(arm, seed) is not None:
        progress(chain_updates(settings, arm))
        return folder
    trained = (folder / "chain.json").is_file()  # and conditions have been added since
    if trained and not (folder / "plain.pt").is_file():
        raise InputError(
            f"{folder}: holds transcripts without the networks that wrote them, and not of every condition asked for; "
            "leave out the conditions that were added, or name another --out and no --transcripts"
        )
    passes = settings.encoder_passes(arm)
    plain, seconds = _pretrained(settings, arm, seed, lambda done: progress(round(done * arm.passes)))
    done, tuned = passes, {}
    progress(done)
    for labels in settings.labels:
        tuned[labels] = finetune(settings, folder, plain, labels, seed, beyond(progress, done))
        done += settings.all_finetuning_updates(labels)
        _decoded(settings, folder, labels, tuned[labels].checkpoint)
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
        **({"processes": settings.processes} if arm.passes and settings.processes > 1 else {}),
        "finetuning_seconds": {labels: of.seconds for labels, of in tuned.items()},
    }
    if settings.scale.finetune_choices or settings.scale.finetune_again:
        record["finetuning"] = {labels: {"chosen": of.choice, "dev": of.dev} for labels, of in tuned.items()}
    write_whole(folder / "chain.json", json.dumps(record, indent=1) + "\n")
    return folder


def claim_chain(folder: Path, arm: Arm) -> None:
    """Let a chain's folder hold one arm as arms.yaml has it; raises InputError where it was made of another."""
    record = folder / "arm.json"
    output = Output(folder, arm_record(arm), record, [record])
    if not claim(output):
        folder.mkdir(parents=True, exist_ok=True)
        keep_record(output)


def _pretrained(settings: Settings, arm: Arm, seed: int, progress: Progress) -> tuple[Path, float]:
    """Return the arm's weights as a plain checkpoint, and the seconds that its updates took."""
    from ccc_w2v.checkpoint.plain import export_plain
    from ccc_w2v.warm_start import write_start

    folder = settings.folder(arm, seed)
    plain = folder / "plain.pt"
    overrides = pretraining_overrides(settings, arm, seed)
    if settings.starts_warm(arm):
        write_warm_start(settings, seed)
    if not arm.passes:
        if arm.warm_start and not plain.is_file():
            copy_whole(settings.warm_start(seed), plain)
        if not plain.is_file():
            write_start(settings.recipe / "config/pretrain.yaml", overrides, plain)
        return plain, 0.0
    run_training(folder / "pretrain", settings, "pretrain", overrides, progress, settings.processes)
    if not plain.is_file():
        export_plain(folder / "pretrain/checkpoints/checkpoint_last.pt", plain)
    return plain, round(float(end_of(folder / "pretrain")["previous_training_time"]), 1)


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
    if settings.processes > 1:
        values["dataset.max_tokens"] = settings.pretraining_value(arm, "dataset.max_tokens") // settings.processes
    if settings.starts_warm(arm):
        values["checkpoint.finetune_from_model"] = str(settings.warm_start(seed))
    return key_overrides(settings.recipe / "config/pretrain.yaml", values)


def _decoded(settings: Settings, folder: Path, labels: str, checkpoint: Path) -> None:
    """Decode the test set under every condition by every decoder."""
    from ccc_w2v.decode.beam import BeamSettings, beam_search
    from ccc_w2v.decode.ctc_model import load_ctc
    from ccc_w2v.decode.load import made_faster
    from ccc_w2v.decode.transcribe import DecodingOptions, decode_into, decoding_identity

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
