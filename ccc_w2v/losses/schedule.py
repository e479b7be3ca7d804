"""A value that rises or falls along a line at first, and along half a cosine from there."""

from __future__ import annotations

import math


def warmup_then_cosine(
    update: int, *, base: float, final: float, total: int, warmup: int = 0, start: float = 0.0, truncate: float = 1.0
) -> float:
    """Return the value at an update (from 0): from ``start`` to ``base`` over the warm-up, then towards ``final``.

    Both ends belong to the warm-up, so that ``base`` is taken twice. ``truncate`` below 1 takes only that share of the
    half cosine, which then ends short of ``final``; from update ``total`` on the value is ``final``. Source: CAPI
    (arXiv 2502.08769), the authors' code.
    """
    if update >= total:
        return final
    if update < warmup:
        return start + (base - start) * update / (warmup - 1) if warmup > 1 else start
    share = truncate * (update - warmup) / (total - warmup)
    return final + (base - final) / 2 * (1 + math.cos(math.pi * share))
