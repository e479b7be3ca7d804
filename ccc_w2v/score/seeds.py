"""How far a difference between two ways of training would move with other seeds, which no test set shows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit


def seeds_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return Student's t interval (low, high) of the mean of ``differences``, one for each pair of trainings.

    It takes the seeds for a sample of all seeds, and the differences for normal. With two seeds it is 12.7 standard
    errors wide to either side, with three 4.3: so little do few trainings say. None for fewer than two.
    Raises ValueError for a level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"expected 0 < level < 1, got {level}")
    if len(differences) < 2:
        return None
    middle, count = statistics.fmean(differences), len(differences)
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * statistics.stdev(differences) / math.sqrt(count)
    return middle - half, middle + half
