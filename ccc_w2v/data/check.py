"""Every recording of a manifest read to its end: what a training would stop at, found before it starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.manifest import LABEL_KINDS, Entry, Manifest, read_labels, write_manifest, write_whole
from ccc_w2v.errors import InputError


def find_bad_audio(manifest: Manifest, sample_rate: int, *, min_samples: int = 1, workers: int = 1) -> dict[Entry, str]:
    """Read every recording whole, by ``workers`` threads; return what is wrong, a message for each bad entry."""

    def problem(entry: Entry) -> str | None:
        try:
            read_audio(
                manifest.audio_path(entry),
                sample_rate,
                where=manifest.where(entry),
                declared_samples=entry.samples,
                min_samples=min_samples,
            )
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(problem, manifest.entries)
        bar = tqdm(found, total=len(manifest), desc=f"checking {Path(manifest.source).name}", unit="file")
        return {entry: message for entry, message in zip(manifest.entries, bar, strict=True) if message}


def write_without(manifest: Manifest, bad: dict[Entry, str], out: str | Path) -> int:
    """Write ``manifest`` to ``out`` without its bad entries, and its labels likewise; returns the number of lines.

    Raises InputError where nothing is left, or where the labels do not fit the manifest.
    """
    out = Path(out)
    kept = [index for index, entry in enumerate(manifest.entries) if entry not in bad]
    if not kept:
        raise InputError(f"{manifest.source}: no recording is usable, so {out} is not written; mend the corpus")
    labels = {kind: read_labels(manifest, kind) for kind in LABEL_KINDS}
    for kind, lines in labels.items():
        if lines is not None:
            write_whole(out.with_suffix(kind), "".join(f"{lines[index]}\n" for index in kept))
    entries = [manifest.entries[index] for index in kept]
    write_manifest(out, manifest.root, [(entry.path, entry.samples) for entry in entries])
    return len(entries)
