"""A packed corpus on disk: its manifest, the archives beside it by their names, and what decides their content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.data.labels import labelled_content, listing_paths
from ccc_w2v.data.manifest import Manifest, manifest_digest, read_manifest
from ccc_w2v.data.shard_scan import INDEX
from ccc_w2v.data.slices import member_of
from ccc_w2v.errors import InputError
from ccc_w2v.run_folder import Output, beside

SIZE = {"zip": "size of a zip", "tar": "size of a shard"}
NAMES = {"zip": "{}_{:03}.zip", "tar": "{}-{:06}.tar"}


@dataclass(frozen=True)
class Packing:
    """What is packed beside the manifest ``out``: recordings at ``sample_rate`` [Hz], into archives of ``max_bytes``.

    ``lines`` are the places of a share's lines; None: all lines, and their labels.
    """

    kind: str
    manifest: Manifest
    out: Path
    sample_rate: int
    max_bytes: int
    lines: range | None = None


def packed_output(packing: Packing) -> Output:
    """Return what a packing writes and what decides it; raises InputError for archives of no size."""
    if packing.max_bytes < 1:
        plural = {"zip": "zips", "tar": "shards"}[packing.kind]
        raise InputError(f"{plural} of {packing.max_bytes} bytes: expected at least 1")
    manifest, out = packing.manifest, packing.out
    settings: dict[str, Any] = {"sample rate": packing.sample_rate, SIZE[packing.kind]: packing.max_bytes}
    labels = []
    if packing.lines is None:
        content = labelled_content(manifest)
        labels = [name.removeprefix("labels ") for name in content if name.startswith("labels ")]
        settings = {**content, **settings}
    else:
        settings |= {"manifest": manifest_digest(manifest.source), "lines": [packing.lines.start, packing.lines.stop]}
    archives = archives_beside(out, packing.kind)
    written = [*listing_paths(out, labels), *archives]
    written += [index_of(shard) for shard in archives if packing.kind == "tar"]
    return Output(out, settings, beside(out), written, listing_paths(manifest.source, labels))


def archive_path(out: Path, kind: str, number: int) -> Path:
    """Return the path of an archive of the manifest ``out`` by its number."""
    return out.with_name(NAMES[kind].format(out.stem, number))


def archives_beside(out: Path, kind: str) -> list[Path]:
    """Return the archives beside the manifest ``out`` that have names of its own, listed there or not."""
    digits = {"zip": r"_\d{3,}\.zip", "tar": r"-\d{6,}\.tar"}[kind]
    own = re.compile(re.escape(out.stem) + digits, re.ASCII)
    return sorted(path for path in out.parent.glob(f"*.{kind}") if own.fullmatch(path.name))


def archives_of(out: Path) -> list[Path]:
    """Return the archives that a packed manifest's lines name, in their order; raises InputError as for a manifest."""
    parts = (member_of(entry.path) for entry in read_manifest(out).entries)
    return [out.parent / name for name in dict.fromkeys(part.file for part in parts if part is not None)]


def index_of(shard: Path) -> Path:
    """Return the path of a tar shard's index."""
    return Path(f"{shard}{INDEX}")
