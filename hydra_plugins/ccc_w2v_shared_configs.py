"""Hydra finds in recipes/shared the groups that several recipes use: `pretraining/size: base` in a YAML's defaults.

Hydra 1.0 knows no `hydra.searchpath`, so a plugin appends the folder: what a recipe's own folder holds comes first. A
package installed without the recipes has no such folder, and then nothing is appended.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

PROVIDER = "ccc_w2v"
SHARED = Path(__file__).resolve().parents[1] / "recipes/shared"


class SharedConfigs(SearchPathPlugin):
    """Appends recipes/shared to hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder of shared groups where it is there."""
        if SHARED.is_dir():
            search_path.append(PROVIDER, f"file://{SHARED}")
