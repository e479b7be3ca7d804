"""Hugging Face data sets as audio, ``hub:name/config/split``: rows at random, from the files that `datasets` caches.

`datasets` fetches a data set once and maps it into memory, which all processes of a machine share. Its streaming mode
is not used: rows come in the order of their files, and a shuffle buffer is not restored on resuming.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ccc_w2v.errors import InputError

PREFIX = "hub:"


def is_hub(path: str) -> bool:
    """Tell whether a path names a Hub data set or a row of one."""
    return path.startswith(PREFIX)


@dataclass(frozen=True)
class HubAudio:
    """The audio column of a data set, undecoded: each row a dictionary of "bytes" and "path"."""

    rows: Any
    column: str
    fingerprint: str

    def stored(self, row: int) -> str | bytes:
        """Return the bytes of a row's audio, or the path of its file; raises InputError where it has neither."""
        audio = self.rows[row][self.column] or {}
        if audio.get("bytes") is not None:
            return audio["bytes"]
        if audio.get("path") and os.path.isfile(audio["path"]):
            return str(audio["path"])
        raise InputError(f"row {row}: has no audio in column {self.column}; remove the row from the data set")


@functools.lru_cache(maxsize=8)
def open_hub(source: str) -> HubAudio:
    """Open ``hub:name/config/split``; the data set is fetched where it is not cached.

    ``name`` is a repository of the Hub, or a folder. Raises InputError for a name of another form, where `datasets` is
    not installed or cannot open it, and for a data set without one column of audio.
    """
    name, config, split = _parts(source)
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"{source}: needs Hugging Face datasets: pip install 'ccc-w2v[hub]'") from error
    loaded = _called(source, lambda: datasets.load_dataset(name, config, split=split))
    columns = [key for key, feature in loaded.features.items() if isinstance(feature, datasets.Audio)]
    column = "audio" if "audio" in columns else (columns[0] if len(columns) == 1 else None)
    if column is None:
        raise InputError(
            f"{source}: has {len(columns)} columns of audio among {', '.join(loaded.features)}; expected one, or one "
            "named audio"
        )
    rows = loaded.select_columns([column]).cast_column(column, datasets.Audio(decode=False))
    return HubAudio(rows, column, str(loaded._fingerprint))


def stored_row(path: str) -> str | bytes:
    """Return the audio of ``hub:name/config/split/row``; see HubAudio.stored."""
    source, _, row = path.rpartition("/")
    audio = open_hub(source)
    if not row.isdecimal() or int(row) >= len(audio.rows):
        raise InputError(f"{source} has {len(audio.rows)} rows, no row {row}; write the manifest again")
    return audio.stored(int(row))


def _parts(source: str) -> tuple[str, str, str]:
    parts = source.removeprefix(PREFIX).rsplit("/", 2)
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{source}: expected hub:name/config/split, as in hub:openslr/librispeech_asr/clean/train.100")
    return parts[0], parts[1], parts[2]


def _called(source: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # datasets, huggingface_hub, pyarrow and the network have errors of their own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"{source}: cannot be opened as a data set ({reason})") from error
