"""n-best lists that were rescored in shares, put together: the files that one call would have written."""

from __future__ import annotations

import json
from pathlib import Path

from ccc_w2v.data.merging import Shards
from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256
from ccc_w2v.lm.rescore import NBest, claim_rescoring, read_nbest, write_rescored
from ccc_w2v.text_files import read_lines


def merge_rescored(out: Path, shards: Shards, *, overwrite: bool = False) -> tuple[NBest, NBest]:
    """Write the lists, best texts and references of all shares into ``out``; returns the lists before and after.

    Raises InputError where the lists have changed since, or the shares do not hold each of them once.
    """
    record = shards[0][1]
    source = Path(record.options["nbest"])
    if not source.is_file() or sha256(source) != record.of["nbest"]:
        raise InputError(f"{source}: are not the lists that the shards were made of; put them back, or run them again")
    nbest, rescored = read_nbest(source), NBest()
    for place, _ in shards:
        for line in read_lines(place / "nbest.jsonl", "n-best file", "what ccc-w2v rescore writes"):
            entry = json.loads(line)
            rescored[entry["id"]] = entry["nbest"]
    if list(rescored) != list(nbest):
        raise InputError(f"{out}: its shards hold {len(rescored)} utterances that are not the {len(nbest)} of {source}")
    output = claim_rescoring(out, source, record.of, overwrite=overwrite)
    write_rescored(output, source, rescored)
    return nbest, rescored
