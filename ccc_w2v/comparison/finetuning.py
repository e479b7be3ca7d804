"""Fine-tunings of an arm on one labelled subset: as scales.yaml has it, or the best on dev of several that it names.

The fine-tuning that suits one pre-training does not suit another (docs/evidence.md). Where a scale has
finetune_choices, every arm tries each of them, and dev alone chooses before the test set is decoded. Where it has
finetune_again, one that has not left the plateau of the CTC loss is done once more, and dev chooses, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.comparison.settings import Settings, key_overrides, size_of
from ccc_w2v.comparison.training import DEVICE_OVERRIDES, Progress, beyond, end_of, run_training

FIRST, AGAIN = "first", "again"  # names of fine-tunings that are not among a scale's choices


@dataclass(frozen=True)
class Finetuned:
    """The chosen fine-tuning: its best checkpoint, its name (FIRST, AGAIN or one of the scale's), and what was tried.

    ``dev`` has the lowest letter error (%) of each of them on dev, ``seconds`` is the time of all their updates.
    """

    checkpoint: Path
    choice: str
    dev: Mapping[str, float]
    seconds: float


def finetune(settings: Settings, folder: Path, plain: Path, labels: str, seed: int, progress: Progress) -> Finetuned:
    """Fine-tune the plain checkpoint on a labelled subset in every way of the scale; the best on dev is returned.

    Of equals, the first in scales.yaml. Raises InputError for a training that fails, naming its log.
    """
    base, choices = folder / f"finetune_{labels}", settings.scale.finetune_choices
    runs = {choice: base / choice for choice in choices} or {FIRST: base}
    updates = settings.finetuning_updates(labels)
    dev, seconds = {}, 0.0
    for number, name in enumerate(runs):
        overrides = finetuning_overrides(settings, plain, labels, seed, choices.get(name))
        dev[name], spent = _trained(runs[name], settings, overrides, beyond(progress, number * updates))
        seconds += spent
    chosen = min(dev, key=dev.__getitem__)
    again = settings.scale.finetune_again.get(size_of(labels))
    if again and dev[chosen] > again["above"]:
        overrides = finetuning_overrides(settings, plain, labels, seed, {**choices.get(chosen, {}), **again["set"]})
        # Shown in the place of the one before it: the total of updates does not know of another.
        before = beyond(progress, (len(runs) - 1) * updates)
        runs[AGAIN] = folder / f"finetune_{labels}_again"
        dev[AGAIN], spent = _trained(runs[AGAIN], settings, overrides, before)
        seconds += spent
        chosen = min(dev, key=dev.__getitem__)
    return Finetuned(runs[chosen] / "checkpoints/checkpoint_best.pt", chosen, dev, round(seconds, 1))


def _trained(run: Path, settings: Settings, overrides: list[str], progress: Progress) -> tuple[float, float]:
    """Fine-tune in a folder; returns the lowest letter error (%) on dev, and the seconds of its updates."""
    run_training(run, settings, "finetune", overrides, progress)
    end = end_of(run)
    return float(end["best"]), float(end["previous_training_time"])


def finetuning_overrides(
    settings: Settings, plain: Path, labels: str, seed: int, further: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the overrides of a fine-tuning, the same for all arms; ``further`` are those of one of several."""
    values: dict[str, Any] = {
        "task.data": str(settings.data),
        "common.seed": seed,
        "dataset.train_subset": f"train_{labels}",
        "optimization.max_update": settings.finetuning_updates(labels),
        "checkpoint.save_interval_updates": settings.scale.save,
        "dataset.validate_interval_updates": settings.scale.save,
        "model.w2v_path": str(plain),
        **DEVICE_OVERRIDES[settings.device],
        **settings.scale.finetune,
        **settings.scale.finetune_by_labels.get(size_of(labels), {}),
        **(further or {}),
    }
    return key_overrides(settings.recipe / "config/finetune.yaml", values)
