"""How a hypothesis was made: what ccc-w2v decode leaves beside it, so that a result can say its decoder and LM."""

from __future__ import annotations

import json
from pathlib import Path

from ccc_w2v.errors import InputError

# How hyp.trn was made, beside it.
SETTINGS = "decoding.json"
# What it says besides, which decides nothing: the files whose digests it holds.
FILE_NAMES = ("checkpoint files", "manifest file")


def read_settings(folder: Path) -> dict[str, str]:
    """Return what is known of how a folder's hypotheses were decoded; nothing where ccc-w2v decode has left nothing.

    Raises InputError if decoding.json is malformed.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        return {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: not what ccc-w2v decode writes ({error}); remove it or decode again") from error
