"""A corpus that was packed in shares, put together: its archives get the numbers of one corpus, and one list.

Audio is not copied. An archive's name in OUT is a second name of the share's own file; where the file system has none
(no hard links), the file moves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccc_w2v.data.labels import all_labels, write_all_labels
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.data.merging import Shards, whole_manifest
from ccc_w2v.data.packed import Packing, archive_path, archives_beside, archives_of, index_of, packed_output
from ccc_w2v.data.slices import Slice, member_of
from ccc_w2v.errors import InputError
from ccc_w2v.run_folder import check, claim, keep_record

Line = tuple[str, int]


@dataclass(frozen=True)
class _Archive:
    """An archive of a share, its size in bytes, its name in OUT, and its lines under that name."""

    source: Path
    size: int
    target: Path
    lines: list[Line]


def merge_packed(out: Path, shards: Shards, *, overwrite: bool = False) -> list[Path]:
    """Give the archives of all shares consecutive numbers beside the manifest ``out``, and write it and its labels.

    What it writes counts as the whole packing: called without --shard the command has nothing left to do. Interrupted,
    it continues. Returns the archives. Raises InputError where the shares do not hold the manifest's recordings, or
    where an archive is gone or was damaged.
    """
    of = shards[0][1].of
    kind, manifest, out = of["format"], whole_manifest(shards), out.resolve()
    archives = list(_archives(out, kind, shards))
    _check_lines(out, manifest, archives)
    output = packed_output(Packing(kind, manifest, out, of["sample rate"], of["max bytes"]))
    same = check(output, overwrite=overwrite)
    if same and out.is_file() and all(path.is_file() for path in archives_of(out)):
        return archives_of(out)
    for archive in archives:
        if _size(archive.source) != archive.size and not (same and _size(archive.target) == archive.size):
            raise InputError(
                f"{archive.source}: is gone or has another size than when it was packed; run that shard again"
            )
    claim(output, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    keep_record(output)
    out.unlink(missing_ok=True)  # the list of archives that are about to be replaced
    for archive in archives:
        _place(archive)
        if kind == "tar":
            write_manifest(index_of(archive.target), out.parent, archive.lines)
    # A call without --shard that was stopped may have written more of them.
    for extra in set(archives_beside(out, kind)) - {archive.target for archive in archives}:
        extra.unlink()
        index_of(extra).unlink(missing_ok=True)
    write_all_labels(manifest, out, all_labels(manifest))
    write_manifest(out, out.parent, [line for archive in archives for line in archive.lines])
    return [archive.target for archive in archives]


def _archives(out: Path, kind: str, shards: Shards) -> Iterator[_Archive]:
    number = 0
    for place, record in shards:
        lines_of: dict[str, list[Line]] = {name: [] for name in record.options["archives"]}
        for entry in read_manifest(place / out.name).entries:
            part = member_of(entry.path)
            if part is None or part.file not in lines_of:
                raise InputError(f"{place / out.name}: is not the list of that shard's archives; run that shard again")
            lines_of[part.file].append((entry.path, entry.samples))
        for name, size in record.options["archives"].items():
            target = archive_path(out, kind, number)
            yield _Archive(place / name, size, target, [_renamed(line, target.name) for line in lines_of[name]])
            number += 1


def _renamed(line: Line, name: str) -> Line:
    part = member_of(line[0])
    assert part is not None
    return str(Slice(name, part.start, part.length)), line[1]


def _check_lines(out: Path, manifest: Manifest, archives: Sequence[_Archive]) -> None:
    samples = [samples for archive in archives for _, samples in archive.lines]
    if not np.array_equal(samples, manifest.samples):
        raise InputError(
            f"{out}: its shards hold {len(samples)} recordings that are not the {len(manifest)} of {manifest.source}; "
            "run them again"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _place(archive: _Archive) -> None:
    """Give an archive its name in OUT, unless an interrupted merge has moved it there."""
    if _size(archive.source) != archive.size:
        return
    archive.target.unlink(missing_ok=True)
    try:
        os.link(archive.source, archive.target)
    except OSError:
        try:
            os.replace(archive.source, archive.target)
        except OSError as error:
            raise InputError(
                f"{archive.source}: cannot be renamed to {archive.target} ({error.strerror}); shards must be in the "
                "file system of the manifest that is merged"
            ) from error
