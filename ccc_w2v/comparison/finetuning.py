"""Fine-tunings of an arm on one labelled subset: as scales.yaml has it, or the best on dev of several that it names.

The fine-tuning that suits one pre-training does not suit another (docs/evidence.md). Where a scale has
finetune_choices, every arm tries each of them, and dev alone chooses before the test set is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.comparison.settings import Settings, key_overrides, size_of
from ccc_w2v.comparison.training import DEVICE_OVERRIDES, Progress, beyond, end_of, run_training


@dataclass(frozen=True)
class Finetuned:
    """The chosen fine-tuning: its best checkpoint, its name ("" where there was no choice), and what was tried.

    ``dev`` has the lowest letter error (%) of each choice on dev, ``seconds`` is the time of all their updates.
    """

    checkpoint: Path
    choice: str
    dev: Mapping[str, float]
    seconds: float


def finetune(settings: Settings, folder: Path, plain: Path, labels: str, seed: int, progress: Progress) -> Finetuned:
    """Fine-tune the plain checkpoint on a labelled subset in every way of the scale; the best on dev is returned.

    Of equals, the first in scales.yaml. Raises InputError for a training that fails, naming its log.
    """
    runs = folder / f"finetune_{labels}"
    updates = settings.finetuning_updates(labels)
    seconds, dev = 0.0, {}
    for number, choice in enumerate(settings.scale.finetune_choices or {"": {}}):
        overrides = finetuning_overrides(settings, plain, labels, seed, choice)
        run_training(runs / choice, settings, "finetune", overrides, beyond(progress, number * updates))
        end = end_of(runs / choice)
        seconds += float(end["previous_training_time"])
        dev[choice] = float(end["best"])
    chosen = min(dev, key=dev.__getitem__)
    return Finetuned(runs / chosen / "checkpoints/checkpoint_best.pt", chosen, dev, round(seconds, 1))


def finetuning_overrides(settings: Settings, plain: Path, labels: str, seed: int, choice: str = "") -> list[str]:
    """Return the overrides of a fine-tuning, the same for all arms; ``choice`` is one of the scale's."""
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
        **(settings.scale.finetune_choices[choice] if choice else {}),
    }
    return key_overrides(settings.recipe / "config/finetune.yaml", values)
