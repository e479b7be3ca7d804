"""What the tests of a comparison share."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "recipes/small"


@pytest.fixture
def recipe(tmp_path):
    """A recipe with the arms of the real one and one condition beside clean."""
    (tmp_path / "recipe/conditions").mkdir(parents=True)
    (tmp_path / "recipe/config").symlink_to(RECIPE / "config")
    (tmp_path / "recipe/conditions/noise10.yaml").touch()
    return tmp_path / "recipe"
