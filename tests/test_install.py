"""setup.cfg's pins: every supported Python can install what it asks for there."""

import configparser
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
SETUP = ROOT / "setup.cfg"
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


@pytest.mark.skipif(shutil.which("c++") is None, reason="the setup wants a compiler")
@pytest.mark.parametrize(("prefix", "kept"), [(sys.base_prefix, True), ("/opt/another", False)])
def test_the_setup_does_not_build_on_an_environment_of_another_interpreter(tmp_path, prefix, kept):
    (tmp_path / "tools").mkdir()
    script = shutil.copy(ROOT / "tools/setup_venv.sh", tmp_path / "tools")
    marker = tmp_path / ".venv/marker"
    (tmp_path / ".venv/bin").mkdir(parents=True)
    marker.touch()
    # Both answer as this Python does; neither makes an environment.
    for path, base in ((tmp_path / "python", sys.base_prefix), (tmp_path / ".venv/bin/python", prefix)):
        asked = f"import sys; sys.base_prefix = {base!r}; exec(sys.argv[1])"
        path.write_text(f"""#!/bin/sh
[ "$1" = -c ] || exit 7
exec {sys.executable} -c "{asked}" "$2"
""")
        path.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(tmp_path / "python")}
    ended = subprocess.run([script, ".venv"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 7, ended.stderr
    assert marker.exists() == kept
