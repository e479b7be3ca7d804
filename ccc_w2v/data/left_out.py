"""Audio that a training leaves out: named with the setting, its share and its hours, and refused where it is most."""

from __future__ import annotations

import logging

import numpy as np

from ccc_w2v.errors import InputError

logger = logging.getLogger(__name__)

MOST_LEFT_OUT = 0.5  # of the utterances; more is a mistake unless the configuration says that it is not


def name_left_out(
    source: object, left_out: np.ndarray, lengths: np.ndarray, sample_rate: int, why: str, *, accepted: bool
) -> None:
    """Log which share of utterances (lengths in samples) is left out, if any is.

    Raises InputError where that is more than half of them, unless ``accepted``.
    """
    if not len(left_out):
        return
    share = len(left_out) / len(lengths)
    hours, of = int(left_out.sum()) / sample_rate / 3600, int(lengths.sum()) / sample_rate / 3600
    said = f"{source}: {len(left_out)} of {len(lengths)} utterances ({share:.1%}; {hours:.2f} of {of:.2f} h) are "
    said += f"{why} and left out"
    if share > MOST_LEFT_OUT and not accepted:
        raise InputError(f"{said}; change that setting, or say yes with task.accept_left_out=true")
    logger.warning(said)
