"""Run a command-line tool inside the test's process: a fresh Python needs seconds to import torch and fairseq."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


def run_tool(name: str, *positional: object, **options: object) -> int:
    """Run tools/<name>.py positional ... --option value ... and return its exit code."""
    return run_with(name, *positional, *as_arguments(**options))


def as_arguments(**options: object) -> list[str]:
    """Write options as a command line's."""
    return [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def run_with(name: str, *arguments: object) -> int:
    """Run tools/<name>.py with these arguments as they stand and return its exit code."""
    main: Callable[[], int] = runpy.run_path(str(TOOLS / f"{name}.py"))["main"]
    with mock.patch("sys.argv", [f"{name}.py", *map(str, arguments)]):
        return main()


def one_line_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a tool has said on stderr, after making sure that it is one error and that stdout is empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err
