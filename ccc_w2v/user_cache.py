"""The folder of this package in the user's cache: what can be made again, and takes a while."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of this package's cache, by the XDG base directory specification."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "ccc_w2v"
