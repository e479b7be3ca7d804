"""What all merges of shards need: the manifest that they are of, and their files side by side."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ccc_w2v.data.manifest import Manifest, manifest_digest
from ccc_w2v.data.streams import is_stream_source, read_source
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing
from ccc_w2v.sharding import ShardRecord

Shards = Sequence[tuple[Path, ShardRecord]]


def whole_manifest(shards: Shards) -> Manifest:
    """Return the manifest that all shards are of; raises InputError where it is gone or another one by now."""
    record = shards[0][1]
    source = record.options["manifest"]
    if is_stream_source(source) or Path(source).is_file():
        manifest = read_source(source)
        if manifest_digest(manifest.source) == record.of["manifest"]:
            return manifest
    raise InputError(f"{source}: is not the manifest that the shards were made of; put it back, or run them again")


def common_settings(settings: Sequence[tuple[Path, Mapping[str, Any]]], own: Sequence[str]) -> dict[str, Any]:
    """Return the settings that all shards' outputs record, without those that each has of its ``own``.

    Raises InputError where two differ.
    """
    first = {name: value for name, value in settings[0][1].items() if name not in own}
    for path, other in settings[1:]:
        kept = {name: value for name, value in other.items() if name not in own}
        if differing := [name for name in {**first, **kept} if first.get(name) != kept.get(name)]:
            raise InputError(f"{path}: differs from {settings[0][0]} in {', '.join(differing)}; run that shard again")
    return first


def take_file(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no such."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with appearing(target, durable=False) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
