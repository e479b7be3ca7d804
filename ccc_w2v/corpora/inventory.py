"""Recordings of a folder as a manifest of those that decode: what noise and impulse response corpora have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.data.audio import audio_samples
from ccc_w2v.data.check import find_bad_audio
from ccc_w2v.data.manifest import Entry, Manifest, write_manifest
from ccc_w2v.errors import InputError

SAMPLE_RATE = 16_000


def write_checked(out: Path, root: Path, files: Sequence[Path], workers: int | None = None) -> tuple[int, list[str]]:
    """Read every file to its end and write the manifest ``out`` of the good ones, relative to ``root``.

    Returns the samples listed and a message for each file that is left out: one that cannot be decoded, or is not mono
    at 16 kHz, or silent. Raises InputError where none is good; nothing is written then.
    """
    entries, bad = [], []
    for line, file in enumerate(tqdm(files, desc=f"headers for {out.name}", unit="file", leave=False), start=2):
        try:
            entries.append(Entry(str(file.relative_to(root)), audio_samples(file, SAMPLE_RATE), line))
        except InputError as error:
            bad.append(str(error))
    bad_lines = find_bad_audio(Manifest(str(out), str(root), tuple(entries)), SAMPLE_RATE, workers=workers or _cores())
    good = [entry for entry in entries if entry not in bad_lines]
    bad += [message.removeprefix(f"{out}:{entry.line}: ") for entry, message in bad_lines.items()]
    if not good:
        raise InputError(f"{root}: no recording for {out.name} is usable ({(bad or ['there is none'])[0]})")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(out, root, [(entry.path, entry.samples) for entry in good])
    return sum(entry.samples for entry in good), bad


def _cores() -> int:
    return os.cpu_count() or 1
