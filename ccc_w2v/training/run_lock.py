"""One training at a time writes into a folder of checkpoints."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError


def lock_run(save_dir: str) -> Any:
    """Hold save_dir for this process until it ends, however it ends; returns the open lock file.

    Raises InputError when another process holds it: two runs would overwrite each other's checkpoints.
    """
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w")  # noqa: SIM115  (the lock lives as long as the file is open)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise InputError(
            f"{folder.resolve()}: another run is writing here; stop it or set checkpoint.save_dir to another folder"
        ) from error
    return lock
