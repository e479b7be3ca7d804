"""What shares of a check have seen of their recordings, a line for each: the merge compares all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccc_w2v.data.check import AudioLook, look
from ccc_w2v.data.manifest import Manifest, manifest_digest
from ccc_w2v.data.merging import Shards
from ccc_w2v.errors import InputError
from ccc_w2v.files import complete_lines
from ccc_w2v.run_folder import Output, claim, keep_record

LOOKS = "looks.jsonl"


def look_at_share(
    manifest: Manifest,
    lines: range,
    folder: Path,
    sample_rate: int,
    min_samples: int,
    workers: int,
    *,
    overwrite: bool = False,
) -> int:
    """Read the recordings at the places ``lines`` into a journal in ``folder``; returns how many cannot be used.

    A stopped call continues after the last line of the journal, and reads again what could not be used. Raises
    InputError for a journal of other settings, unless ``overwrite``.
    """
    journal = folder / LOOKS
    settings: dict[str, Any] = {"manifest": manifest_digest(manifest.source), "lines": [lines.start, lines.stop]}
    settings |= {"sample rate": sample_rate, "min samples": min_samples}
    output = Output(folder, settings, folder / "settings.json", [journal])
    if not claim(output, overwrite=overwrite):
        keep_record(output)
    known = read_looks(journal)
    todo = [place for place in lines if place not in known or known[place].problem]
    with open(journal, "a", encoding="utf-8") as file:
        for place, seen in zip(todo, look(manifest, todo, sample_rate, min_samples, workers), strict=True):
            known[place] = seen
            file.write(json.dumps([place, seen.problem, seen.clipped, seen.digest.hex()]) + "\n")
            file.flush()
    return sum(bool(seen.problem) for seen in known.values())


def read_looks(journal: Path) -> dict[int, AudioLook]:
    """Return what a journal holds, by the place of the line; half a line at its end is cut off.

    Raises InputError for what is no such journal.
    """
    if not journal.is_file():
        return {}
    complete, looks = complete_lines(journal), {}
    try:
        for line in complete.splitlines():
            place, problem, clipped, digest = json.loads(line)
            looks[int(place)] = AudioLook(str(problem), float(clipped), bytes.fromhex(digest))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{journal}: not what ccc-w2v check writes ({error}); remove it, and run that shard again"
        ) from error
    os.truncate(journal, len(complete))
    return looks


def looks_of(shards: Shards) -> Iterator[AudioLook]:
    """Yield what all shares have seen, in the order of the manifest's lines, with one share at a time in memory.

    Raises InputError where a share's journal does not hold each of its lines.
    """
    start = 0
    for folder, record in shards:
        seen = read_looks(folder / LOOKS)
        places = range(start, start + record.items)
        if sorted(seen) != list(places):
            raise InputError(f"{folder / LOOKS}: does not hold the {record.items} lines of its share; run it again")
        yield from (seen[place] for place in places)
        start += record.items
