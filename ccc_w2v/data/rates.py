"""The sample rate of every recording of a manifest, which the manifest does not tell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.data.audio import audio_rate
from ccc_w2v.data.manifest import Entry, Manifest
from ccc_w2v.errors import InputError

THREADS = 16  # a header is waited for, not computed


def sample_rates(manifest: Manifest, *, skip: bool = False) -> list[int | None]:
    """Read the headers of all recordings; return their rates in Hz.

    Raises InputError for the first unreadable one; with ``skip`` its rate is None.
    """

    def rate(entry: Entry) -> int | None:
        try:
            return audio_rate(manifest.audio_path(entry), where=manifest.where(entry))
        except InputError:
            if not skip:
                raise
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        rates = pool.map(rate, manifest.entries)
        return list(tqdm(rates, total=len(manifest), desc=f"rates of {Path(manifest.source).name}", unit="file"))
