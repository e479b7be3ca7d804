"""What a name of a training's data stands for: a manifest in a folder, shards, a Hub data set, an address."""

from __future__ import annotations

import os
from pathlib import Path

from ccc_w2v.data.hub import is_hub
from ccc_w2v.data.remote import is_address
from ccc_w2v.data.streams import SHARD, is_stream_source
from ccc_w2v.errors import InputError


def source_of(data: str | Path, subset: str, training_subset: str | None = None) -> str | Path:
    """Return the source of a subset by task.data and the subset's name.

    A subset is <data>/<subset>.tsv; shards <data>/<subset> where its name ends in .tar; <data>/<subset> of a Hub data
    set hub:name/config; or a stream by its own whole name. Where task.data itself names shards, they are the training
    subset, and others are in their folder. Raises InputError for another subset than the training's by an absolute
    path: TensorBoard would write beside it.
    """
    data = str(data)
    if is_address(subset) or is_hub(subset):
        return subset
    if subset.endswith(SHARD) and os.path.isabs(subset):
        if subset != training_subset:
            raise InputError(f"dataset.valid_subset={subset}: name it as it lies in task.data={data}")
        return subset
    if is_hub(data):
        return f"{data}/{subset}"
    if data.endswith(SHARD):
        if subset == training_subset:
            return data
        data = data.rpartition("/")[0] or "."
    return join_source(data, subset if subset.endswith(SHARD) else f"{subset}.tsv")


def join_source(folder: str | Path, name: str) -> str | Path:
    """Return a source below a folder, which may be an address; a whole name stays as it is."""
    if is_address(name) or is_hub(name):
        return name
    if is_address(str(folder)):
        return f"{str(folder).rstrip('/')}/{name}"
    joined = Path(folder) / name
    return str(joined) if is_stream_source(joined) else joined
