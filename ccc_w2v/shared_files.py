"""Folders of a checkout that an installed wheel has too: recipes/augment, manifests."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from ccc_w2v.errors import InputError


def shared_folder(name: str) -> Path:
    """Return a folder of the checkout by its path, or the same one where a wheel installs it.

    Raises InputError where there is neither.
    """
    shared = Path("share", "ccc_w2v", name)
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    folders = [
        Path(__file__).resolve().parents[1] / name,
        *(Path(sysconfig.get_path("data", scheme)) / shared for scheme in schemes),
    ]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise InputError(f"no folder {name}, looked for {', '.join(map(str, folders))}; install the package again")
