"""The parts of a stream, a shard or some thousand rows of a Hub data set; what each holds is kept once it was read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.data import hub, remote
from ccc_w2v.data.audio import stored_samples
from ccc_w2v.data.remote import Patience, UnreachableError, is_address
from ccc_w2v.data.shard_scan import INDEX, Scanned, read_index, scan_shard
from ccc_w2v.errors import InputError
from ccc_w2v.files import write_whole

logger = logging.getLogger(__name__)

ROWS = 2048  # of a Hub data set in a part
Version = dict[str, Any]


@dataclass(frozen=True)
class StreamPart:
    """A piece of a stream: its name, how to ask for its version, and how to read what is in that."""

    name: str
    ask: Callable[[], Version]
    scan: Callable[[Version], Scanned]

    def version(self, folder: Path) -> Version:
        """Return what tells the part's version; if it is unreachable, that of what was kept of it.

        Raises InputError where it is not there, and UnreachableError if nothing was kept.
        """
        try:
            return self.ask()
        except UnreachableError as error:
            known = read_json(self._place(folder))
            if known is None:
                raise
            # Leaving it out would number all later utterances anew.
            logger.warning("%s; what it held when it was last read is taken to be there", error)
            return known["version"]

    def read(self, version: Version, folder: Path) -> Scanned:
        """Return what is in the part, which is read where nothing of this version was kept below ``folder``."""
        place = self._place(folder)
        known = read_json(place)
        if known is None or known["version"] != version:
            scanned = self.scan(version)
            known = {"part": self.name, "version": version, "lines": scanned.lines, "bad": scanned.bad}
            write_whole(place, json.dumps(known))
        return Scanned(known["lines"], known["bad"])

    def _place(self, folder: Path) -> Path:
        return folder / f"{hashlib.sha256(self.name.encode()).hexdigest()[:24]}.json"


def shard_part(shard: str, patience: Patience) -> StreamPart:
    """Return a tar shard as a part; the index beside it saves reading it."""

    def ask() -> Version:
        if is_address(shard):
            return remote.version(shard, patience)
        if not os.path.isfile(shard):
            raise InputError(f"{shard}: no such shard; check the pattern")
        status = os.stat(shard)
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def scan(version: Version) -> Scanned:
        lines = _indexed(shard, version["size"], patience)
        return Scanned(lines) if lines else scan_shard(shard, version["size"], patience)

    return StreamPart(shard, ask, scan)


def _indexed(shard: str, size: int, patience: Patience) -> list[tuple[str, int]] | None:
    """Return the lines of the index beside a shard; None where there is none that fits."""
    if not is_address(shard):
        return read_index(f"{shard}{INDEX}", shard, size)
    try:
        content = remote.read_all(f"{shard}{INDEX}", patience)
    except UnreachableError:
        raise
    except InputError:
        return None
    with tempfile.NamedTemporaryFile(suffix=INDEX) as file:
        file.write(content)
        file.flush()
        return read_index(file.name, shard, size)


def row_parts(source: str) -> list[StreamPart]:
    """Return a Hub data set's rows in parts; raises InputError as open_hub does."""
    audio = hub.open_hub(source)

    def part(rows: range) -> StreamPart:
        version = {"fingerprint": audio.fingerprint, "rows": len(rows)}
        return StreamPart(f"{source}/{rows.start}", lambda: version, lambda _: _scan_rows(audio, rows))

    return [part(range(start, min(start + ROWS, len(audio.rows)))) for start in range(0, len(audio.rows), ROWS)]


def _scan_rows(audio: hub.HubAudio, rows: range) -> Scanned:
    scanned = Scanned()
    for row in rows:
        try:
            scanned.lines.append((str(row), stored_samples(audio.stored(row), None, f"row {row}")))
        except InputError as error:
            scanned.bad.append((f"row {row}", str(error).removeprefix(f"row {row}: ")))
    return scanned


def read_json(path: Path) -> Any:
    """Return a file's content; None where there is none, or none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
