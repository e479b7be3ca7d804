"""fairseq's fine-tuning says what is wrong with its labels when it loads them."""

from __future__ import annotations

import functools
from typing import Any

from ccc_w2v.data.labels_check import warn_of_labels
from ccc_w2v.errors import one_line_errors


def check_finetuning_labels() -> None:
    """Check labels before fairseq's audio_finetuning loads them: it reads unknown symbols as <unk>, silently."""
    from fairseq.tasks.audio_finetuning import AudioFinetuningTask

    load = AudioFinetuningTask.load_dataset
    if getattr(load, "checks_labels", False):
        return

    @functools.wraps(load)
    def load_checked(self: Any, split: str, task_cfg: Any = None, **kwargs: Any) -> Any:
        cfg = task_cfg or self.cfg
        with one_line_errors():
            if cfg.labels:
                warn_of_labels(cfg.data, split, cfg.labels)
        return load(self, split, task_cfg, **kwargs)

    load_checked.checks_labels = True  # type: ignore[attr-defined]
    AudioFinetuningTask.load_dataset = load_checked
