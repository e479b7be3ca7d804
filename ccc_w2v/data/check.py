"""Every recording of a manifest read to its end: what a training would stop at or learn badly from, found before."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.labels import all_labels, write_all_labels
from ccc_w2v.data.manifest import Entry, Manifest, write_manifest
from ccc_w2v.errors import InputError

FULL_SCALE = 0.999  # of the loudest value that a file can hold
RUN = 3  # samples at full scale in a row: one alone may be a peak, three are a cut one


@dataclass(frozen=True)
class AudioFinding:
    """What is wrong with one line: ``kind`` is "unusable" (a training stops at it), "clipped" or "duplicate"."""

    entry: Entry
    kind: str
    message: str

    @property
    def fault(self) -> str:
        """What is wrong, without the name of the file that it is wrong with."""
        return self.message.rpartition(self.entry.path)[2].removeprefix(": ")


class AudioLook(NamedTuple):
    """What one recording has shown: its problem ("" for none), its clipped share, a digest of its samples."""

    problem: str
    clipped: float
    digest: bytes


def check_manifest(
    manifest: Manifest, sample_rate: int, *, min_samples: int = 1, max_clipped: float = 0.01, workers: int = 1
) -> list[AudioFinding]:
    """Read every recording whole, by ``workers`` threads, with a progress bar; return what is wrong, in line order.

    Clipped is a recording of which more than the share ``max_clipped`` stands at full scale; a duplicate decodes to the
    samples of an earlier line. Each line has one finding at most.
    """
    places = range(len(manifest))
    return compare(manifest, look(manifest, places, sample_rate, min_samples, workers), max_clipped)


def compare(manifest: Manifest, looks: Iterable[AudioLook], max_clipped: float) -> list[AudioFinding]:
    """Return what is wrong with the lines of a manifest, one after the other, by a look at the recording of each."""
    findings: list[AudioFinding] = []
    first: dict[bytes, Entry] = {}
    for entry, (problem, clipped, digest) in zip(manifest.entries, looks, strict=True):
        name = f"{manifest.where(entry)}: {manifest.audio_path(entry)}"
        if problem:
            findings.append(AudioFinding(entry, "unusable", problem))
            continue
        if digest in first:
            same = f"{name}: the same samples as line {first[digest].line} ({first[digest].path})"
            findings.append(AudioFinding(entry, "duplicate", same))
        elif clipped > max_clipped:
            findings.append(
                AudioFinding(entry, "clipped", f"{name}: {clipped:.1%} of its samples are cut off at full scale")
            )
        first.setdefault(digest, entry)
    return findings


def find_bad_audio(manifest: Manifest, sample_rate: int, *, min_samples: int = 1, workers: int = 1) -> dict[Entry, str]:
    """Read every recording whole, by ``workers`` threads; return what is wrong, a message for each unusable entry."""
    looks = look(manifest, range(len(manifest)), sample_rate, min_samples, workers)
    return {entry: seen.problem for entry, seen in zip(manifest.entries, looks, strict=True) if seen.problem}


def clipped_share(wave_S: np.ndarray) -> float:
    """Return the share of a wave's samples that stand at full scale, RUN or more in a row."""
    high_S = np.abs(wave_S) >= FULL_SCALE
    if not high_S.any():
        return 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], high_S, [False]])))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= RUN].sum() / len(wave_S))


def grouped(findings: list[AudioFinding], most: int = 3) -> list[tuple[AudioFinding, int]]:
    """Return up to ``most`` findings of each kind of fault, and with the last of them how many more there are of it.

    One fault is what a message says but for its file and its numbers: "sample rate 8000 Hz, expected 16000 Hz".
    """
    faults: dict[tuple[str, str], list[AudioFinding]] = {}
    for finding in findings:
        faults.setdefault((finding.kind, re.sub(r"\d+", "N", finding.fault)), []).append(finding)
    shown = []
    for group in faults.values():
        more = max(0, len(group) - most)
        shown += [(finding, 0) for finding in group[:most][:-1]] + [(group[:most][-1], more)]
    return shown


def report(manifest: Manifest, findings: list[AudioFinding], sample_rate: int) -> dict[str, Any]:
    """Return what a check found as JSON can hold it: counts, hours, and every finding with its line."""
    wrong = {finding.entry for finding in findings}
    samples = [entry.samples for entry in manifest.entries if entry not in wrong]
    return {
        "manifest": manifest.source,
        "lines": len(manifest),
        "good": len(samples),
        "good_hours": round(sum(samples) / sample_rate / 3600, 3),
        "counts": dict(Counter(finding.kind for finding in findings)),
        "findings": [
            {"line": finding.entry.line, "kind": finding.kind, "message": finding.message} for finding in findings
        ],
    }


def write_without(manifest: Manifest, bad: Iterable[Entry], out: str | Path) -> int:
    """Write ``manifest`` to ``out`` without some of its entries, and its labels likewise; returns the number of lines.

    Raises InputError where nothing is left, or where the labels do not fit the manifest.
    """
    out, bad = Path(out), set(bad)
    kept = [index for index, entry in enumerate(manifest.entries) if entry not in bad]
    if not kept:
        raise InputError(f"{manifest.source}: no recording is usable, so {out} is not written; repair the corpus")
    labels = {kind: [lines[index] for index in kept] for kind, lines in all_labels(manifest).items()}
    write_all_labels(manifest, out, labels)
    entries = [manifest.entries[index] for index in kept]
    write_manifest(out, manifest.root, [(entry.path, entry.samples) for entry in entries])
    return len(entries)


def look(
    manifest: Manifest, places: Sequence[int], sample_rate: int, min_samples: int, workers: int
) -> Iterator[AudioLook]:
    """Read the recordings at some places of a manifest whole, by ``workers`` threads; yield what each has shown."""

    def at(place: int) -> AudioLook:
        entry = manifest.entries[place]
        try:
            wave_S = read_audio(
                manifest.audio_path(entry),
                sample_rate,
                where=manifest.where(entry),
                declared_samples=entry.samples,
                min_samples=min_samples,
            ).numpy()
        except InputError as error:
            return AudioLook(str(error), 0.0, b"")
        return AudioLook("", clipped_share(wave_S), hashlib.blake2b(wave_S.tobytes(), digest_size=16).digest())

    with ThreadPoolExecutor(workers) as pool:
        yield from tqdm(
            pool.map(at, places), total=len(places), desc=f"checking {Path(manifest.source).name}", unit="file"
        )
