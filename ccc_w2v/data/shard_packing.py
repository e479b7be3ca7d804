"""A corpus in tar shards in the form of WebDataset, for object stores, web servers and disks slow with small files.

Beside each shard lies its index, a manifest of its members (file.tar:offset:length), and beside all of them the
manifest of the whole. Members keep their bytes and their names, but for dots, which WebDataset takes for the ends of
keys.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.data.audio import stored_samples
from ccc_w2v.data.labels import all_labels, labelled_content, listing_paths, write_all_labels
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.data.manifest_lines import Entry
from ccc_w2v.data.shard_scan import AUDIO, INDEX
from ccc_w2v.data.slices import member_of, segment_of
from ccc_w2v.data.sound_file import open_stored
from ccc_w2v.data.stored_audio import audio_bytes
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing
from ccc_w2v.run_folder import Output, beside, claim, keep_record

Line = tuple[str, int]


def pack_shards(
    manifest: Manifest, out: str | Path, sample_rate: int, max_bytes: int = 2**30, *, overwrite: bool = False
) -> list[Path]:
    """Copy a manifest's recordings into tar shards of up to about ``max_bytes`` beside the manifest ``out``.

    Labels beside the manifest are copied, and their dictionaries. Every header is compared with the manifest before its
    recording is packed. Shards and their indices appear whole, the manifest last: an interrupted call resumes after the
    last whole shard. Returns the shards. Raises InputError for something else at ``out`` (replaced with ``overwrite``),
    for a recording that cannot be packed, and for an ``out`` that is the manifest.
    """
    out = Path(out).resolve()
    if max_bytes < 1:
        raise InputError(f"shards of {max_bytes} bytes: expected at least 1")
    labels = all_labels(manifest)
    settings = {**labelled_content(manifest), "sample rate": sample_rate, "size of a shard": max_bytes}
    shards = sorted(out.parent.glob(f"{out.stem}-[0-9][0-9][0-9][0-9][0-9][0-9].tar"))
    written = [*listing_paths(out, labels), *shards, *(index_of(shard) for shard in shards)]
    output = Output(out, settings, beside(out), written, listing_paths(manifest.source, labels))
    if claim(output, overwrite=overwrite):
        if out.is_file():
            return list(_whole_shards(out))
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        keep_record(output)
    packed = _pack(manifest, out, sample_rate, max_bytes)
    write_all_labels(manifest, out, labels)
    write_manifest(out, out.parent, [line for shard in packed for line in _lines_of(shard)])
    return packed


def index_of(shard: Path) -> Path:
    """Return the path of a shard's index."""
    return Path(f"{shard}{INDEX}")


def shard_path(out: Path, number: int) -> Path:
    """Return the path of a shard by its number."""
    return out.with_name(f"{out.stem}-{number:06}.tar")


def _whole_shards(out: Path) -> Iterator[Path]:
    """Yield the shards that are whole, in order: an index is written after its shard."""
    number = 0
    while index_of(shard := shard_path(out, number)).is_file() and shard.is_file():
        yield shard
        number += 1


def _lines_of(shard: Path) -> list[Line]:
    return [(entry.path, entry.samples) for entry in read_manifest(index_of(shard)).entries]


def _pack(manifest: Manifest, out: Path, sample_rate: int, max_bytes: int) -> list[Path]:
    """Write all shards after those that are whole; returns all."""
    shards = list(_whole_shards(out))
    position = sum(len(_lines_of(shard)) for shard in shards)
    with tqdm(
        total=len(manifest), initial=position, desc=f"packing {Path(manifest.source).name}", unit="recording"
    ) as bar:
        while position < len(manifest):
            shard = shard_path(out, len(shards))
            lines = _write_shard(shard, manifest, position, sample_rate, max_bytes, bar)
            write_manifest(index_of(shard), out.parent, lines)
            shards.append(shard)
            position += len(lines)
    return shards


def _write_shard(
    shard: Path, manifest: Manifest, position: int, sample_rate: int, max_bytes: int, bar: tqdm
) -> list[Line]:
    """Fill a shard with the recordings from a position on; returns its lines."""
    lines: list[Line] = []
    # One name for all calls: what a kill has left of a shard is written over.
    with (
        appearing(shard, resumable=True) as partial,
        open(partial, "wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for entry in _from(manifest.entries, position):
            content = _checked(manifest, entry, sample_rate)
            if lines and archive.offset + len(content) > max_bytes:
                break
            member = tarfile.TarInfo(member_name(entry, position + len(lines), content))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            start = archive.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            lines.append((f"{shard.name}:{start}:{len(content)}", entry.samples))
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
            bar.update()
    return lines


def _from(entries: Sequence[Entry], position: int) -> Iterator[Entry]:
    return (entries[number] for number in range(position, len(entries)))


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
