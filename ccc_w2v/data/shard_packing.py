"""A corpus in tar shards in the form of WebDataset, for object stores, web servers and disks slow with small files.

Beside each shard lies its index, a manifest of its members (file.tar:offset:length), and beside all of them the
manifest of the whole. Members keep their bytes and their names, but for dots, which WebDataset takes for the ends of
keys.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.data.audio import stored_samples
from ccc_w2v.data.labels import all_labels, write_all_labels
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.data.manifest_lines import Entry
from ccc_w2v.data.packed import Packing, archive_path, archives_of, index_of, packed_output
from ccc_w2v.data.shard_scan import AUDIO
from ccc_w2v.data.slices import member_of, segment_of
from ccc_w2v.data.sound_file import open_stored
from ccc_w2v.data.stored_audio import audio_bytes
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing
from ccc_w2v.run_folder import claim, keep_record

Line = tuple[str, int]


def pack_shards(
    manifest: Manifest,
    out: str | Path,
    sample_rate: int,
    max_bytes: int = 2**30,
    *,
    lines: range | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Copy a manifest's recordings into tar shards of up to about ``max_bytes`` beside the manifest ``out``.

    Labels beside the manifest are copied, and their dictionaries; of a share, the ``lines`` at some places, none are.
    Every header is compared with the manifest before its recording is packed. Shards and their indices appear whole,
    the manifest last: an interrupted call resumes after the last whole shard. Returns the shards. Raises InputError for
    something else at ``out`` (replaced with ``overwrite``), for a recording that cannot be packed, and for an ``out``
    that is the manifest.
    """
    out = Path(out).resolve()
    output = packed_output(Packing("tar", manifest, out, sample_rate, max_bytes, lines))
    if claim(output, overwrite=overwrite):
        if out.is_file() and all(shard.is_file() for shard in archives_of(out)):
            return archives_of(out)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        keep_record(output)
    packed = _pack(manifest, out, sample_rate, max_bytes, range(len(manifest)) if lines is None else lines)
    if lines is None:
        write_all_labels(manifest, out, all_labels(manifest))
    write_manifest(out, out.parent, [line for shard in packed for line in _lines_of(shard)])
    return packed


def _whole_shards(out: Path) -> Iterator[Path]:
    """Yield the shards that are whole, in order: an index is written after its shard."""
    number = 0
    while index_of(shard := archive_path(out, "tar", number)).is_file() and shard.is_file():
        yield shard
        number += 1


def _lines_of(shard: Path) -> list[Line]:
    return [(entry.path, entry.samples) for entry in read_manifest(index_of(shard)).entries]


def _pack(manifest: Manifest, out: Path, sample_rate: int, max_bytes: int, lines: range) -> list[Path]:
    """Write all shards after those that are whole; returns all."""
    shards = list(_whole_shards(out))
    left = lines[sum(len(_lines_of(shard)) for shard in shards) :]
    with tqdm(
        total=len(lines),
        initial=len(lines) - len(left),
        desc=f"packing {Path(manifest.source).name}",
        unit="recording",
    ) as bar:
        while left:
            shard = archive_path(out, "tar", len(shards))
            written = _write_shard(shard, manifest, left, sample_rate, max_bytes, bar)
            write_manifest(index_of(shard), out.parent, written)
            shards.append(shard)
            left = left[len(written) :]
    return shards


def _write_shard(
    shard: Path, manifest: Manifest, left: range, sample_rate: int, max_bytes: int, bar: tqdm
) -> list[Line]:
    """Fill a shard with the first of the recordings that are left; returns its lines."""
    lines: list[Line] = []
    # One name for all calls: what a kill has left of a shard is written over.
    with (
        appearing(shard, resumable=True) as partial,
        open(partial, "wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for position in left:
            entry = manifest.entries[position]
            content = _checked(manifest, entry, sample_rate)
            if lines and archive.offset + len(content) > max_bytes:
                break
            member = tarfile.TarInfo(member_name(entry, position, content))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            start = archive.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            lines.append((f"{shard.name}:{start}:{len(content)}", entry.samples))
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
            bar.update()
    return lines


def _checked(manifest: Manifest, entry: Entry, sample_rate: int) -> bytes:
    """Return a recording's bytes once its header is as the manifest says."""
    path = manifest.audio_path(entry)
    name = f"{manifest.where(entry)}: {path}"
    if segment_of(entry.path):
        raise InputError(
            f"{name}: is a segment of a long recording, which is read where it is; only whole files are packed"
        )
    try:
        content = audio_bytes(path)
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the manifest's root line") from error
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error
    samples = stored_samples(content, sample_rate, name)
    if samples != entry.samples:
        raise InputError(f"{name}: {samples} samples, the manifest declares {entry.samples}")
    return content


def member_name(entry: Entry, position: int, content: bytes) -> str:
    """Return the name of a recording in its shard: its path, or for what has none its number and its format."""
    part = member_of(entry.path)
    stem, suffix = os.path.splitext(part.file if part else entry.path)
    if suffix.lower() in AUDIO:
        below = os.path.normpath(f"/{stem}").lstrip("/")  # no tar program would write above its folder
        return f"{below.replace('.', '_')}{suffix.lower()}"
    with open_stored(content, entry.path) as recording:
        return f"{position:09}.{recording.format.lower()}"
