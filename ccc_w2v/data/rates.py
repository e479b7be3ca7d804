"""The sample rate of every recording of a manifest, which the manifest does not tell."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ccc_w2v.data.audio import audio_rate
from ccc_w2v.data.manifest import Entry, Manifest
from ccc_w2v.data.slices import segment_of
from ccc_w2v.errors import InputError

THREADS = 16  # a header is waited for, not computed
AT_ONCE = 1 << 14


def sample_rates(manifest: Manifest, *, skip: bool = False) -> np.ndarray:
    """Read the headers of all recordings, once for all segments of one; return their rates (N,) in Hz.

    Raises InputError for the first unreadable one; with ``skip`` its rate is 0.
    """
    rate_of: dict[str, int] = {}

    def rate(entry: Entry) -> int:
        segment = segment_of(entry.path)
        if segment and segment.file in rate_of:
            return rate_of[segment.file]
        try:
            hertz = audio_rate(manifest.audio_path(entry), where=manifest.where(entry))
        except InputError:
            if not skip:
                raise
            hertz = 0
        if segment:
            rate_of[segment.file] = hertz
        return hertz

    entries, rates = iter(manifest.entries), np.zeros(len(manifest), dtype=np.int64)
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(manifest), desc=f"rates of {Path(manifest.source).name}", unit="file") as bar,
    ):
        # A pool takes all that it is given at once, as an object each.
        for start in range(0, len(rates), AT_ONCE):
            for position, hertz in enumerate(pool.map(rate, itertools.islice(entries, AT_ONCE)), start=start):
                rates[position] = hertz
                bar.update()
    return rates
