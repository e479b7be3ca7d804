"""What is in a tar shard: each audio member's place and length, read once from one end of the shard to the other."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ccc_w2v.data.audio import stored_samples
from ccc_w2v.data.manifest_lines import manifest_lines
from ccc_w2v.data.remote import PATIENCE, Patience, RemoteFile, is_address
from ccc_w2v.data.slices import member_of
from ccc_w2v.errors import InputError

INDEX = ".tsv"  # behind a shard's name: the manifest of its members that ccc-w2v pack writes
AUDIO = frozenset([".flac", ".wav", ".ogg", ".opus", ".oga", ".mp3", ".aiff", ".aif", ".au", ".sph", ".w64", ".caf"])
RECORD = tarfile.BLOCKSIZE


@dataclass
class Scanned:
    """Lines of a manifest, (path, samples), and members that cannot be used, (name, reason)."""

    lines: list[tuple[str, int]] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)


def scan_shard(shard: str, size: int, patience: Patience = PATIENCE) -> Scanned:
    """Read a shard of ``size`` bytes; paths are "shard's name:offset:length".

    A member that is no audio by its name is passed over; one that cannot be used is among the bad, as is what follows a
    damaged header. Raises InputError for what is no uncompressed tar and for one without audio, Unreachable as
    read_range does.
    """
    scanned, others = Scanned(), Counter[str]()
    name = shard.rpartition("/")[2]
    with _opened(shard, size, patience) as content:
        for member in _members(content, shard, size, scanned):
            suffix = os.path.splitext(member.name)[1].lower()
            if suffix not in AUDIO:
                others[suffix or "no suffix"] += 1
                continue
            _add(scanned, content, member, name)
    if not scanned.lines and not scanned.bad:
        there = ", ".join(f"{count} of {suffix}" for suffix, count in others.most_common(5)) or "nothing"
        raise InputError(f"{shard}: has no audio ({there}); expected members of {', '.join(sorted(AUDIO))}")
    return scanned


def read_index(index: str | Path, shard: str, size: int) -> list[tuple[str, int]] | None:
    """Return the lines of a shard's index; None where it is none, or not of a shard of ``size`` bytes."""
    name, lines = shard.rpartition("/")[2], []
    try:
        for entry in manifest_lines(index)[1]:
            part = member_of(entry.path)
            if part is None or part.start + part.length > size:
                return None
            lines.append((f"{name}:{part.start}:{part.length}", entry.samples))
    except InputError:
        return None
    return lines


def _opened(shard: str, size: int, patience: Patience) -> Any:
    return RemoteFile(shard, size, patience) if is_address(shard) else open(shard, "rb", buffering=1 << 20)


def _members(content: IO[bytes], shard: str, size: int, scanned: Scanned) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's files; where its headers end before it does, the rest is among the bad."""
    try:
        archive = tarfile.open(fileobj=content, mode="r:")  # noqa: SIM115  (closed with its content)
    except tarfile.TarError as error:
        raise InputError(f"{shard}: is no tar, or a compressed one ({error}); decompress or replace it") from error
    reason = ""
    while True:
        try:
            member = archive.next()
        except tarfile.TarError as error:
            reason = str(error)
            break
        if member is None:
            break
        end = member.offset_data + member.size
        if end > size:
            scanned.bad.append((member.name, f"ends at byte {end}, the shard has {size}"))
            return
        if member.isreg():
            yield member
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
    # tarfile takes a damaged header for the end; a tar ends with zeros.
    content.seek(archive.offset)
    if reason or content.read(RECORD).strip(b"\0"):
        scanned.bad.append((f"from byte {archive.offset} on", f"unreadable ({reason or 'a damaged header'})"))


def _add(scanned: Scanned, content: IO[bytes], member: tarfile.TarInfo, name: str) -> None:
    start, length = member.offset_data, member.size
    content.seek(start)
    try:
        samples = stored_samples(_exactly(content, length), None, member.name)
    except InputError as error:
        scanned.bad.append((member.name, str(error).removeprefix(f"{member.name}: ")))
        return
    if samples:
        scanned.lines.append((f"{name}:{start}:{length}", samples))
    else:
        scanned.bad.append((member.name, "has no samples"))


def _exactly(content: IO[bytes], length: int) -> bytes:
    parts, left = [], length
    while left and (part := content.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
