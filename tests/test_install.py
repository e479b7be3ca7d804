"""setup.cfg's pins: every supported Python can install what it asks for there."""

import configparser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

SETUP = Path(__file__).parents[1] / "setup.cfg"
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def requirements() -> list[Requirement]:
    """Every requirement of the package and of its extras."""
    setup = configparser.ConfigParser()
    setup.read(SETUP)
    listed = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lines = [line.strip() for text in listed for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", PYTHONS)
def test_a_pinned_version_runs_on_each_python_that_takes_it(python):
    """Of what is installed here; the suite runs on more than one Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    compared, wrong = 0, []
    for requirement in requirements():
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        try:
            package = metadata.metadata(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        if requirement.specifier.contains(package["Version"]):
            compared += 1
            if not SpecifierSet(package["Requires-Python"] or "").contains(f"{python}.0"):
                wrong.append(f"{requirement}: {package['Requires-Python']}")
    assert compared > 10
    assert not wrong
