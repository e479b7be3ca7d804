"""The manual says what the code says: its tables, its links, and every command that any page shows."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ccc_w2v.capi import CapiCriterionConfig
from ccc_w2v.cli.main import COMMANDS
from ccc_w2v.settings.criterion import CccCriterionConfig
from ccc_w2v.settings.model import CccWav2Vec2Config
from ccc_w2v.settings.task import CccPretrainingConfig

pytest.importorskip("mkdocs", reason="the manual's builder is in the extra `docs`")
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"```.*?\n(.*?)```|`([^`]+)`|((?:^ {4}.*\n)+)", re.DOTALL | re.MULTILINE)
CALL = re.compile(r"(?:^|\s|\()ccc-w2v((?: [a-z][a-z0-9-]*){1,2})([^\n|#)]*)")


def load_hooks():
    spec = importlib.util.spec_from_file_location("manual_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()


def pages() -> list[Path]:
    """Every Markdown file of the repository, new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()] if listed.returncode == 0 else []
    return paths or [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/*.md")]


def shown_calls(text: str) -> list[tuple[str, list[str]]]:
    """Return (subcommand, options) of every call of ccc-w2v in a page's code; a benchmark's name stays with it."""
    calls = []
    for match in CODE.finditer(text):
        code = next(part for part in match.groups() if part is not None).replace("\\\n", " ")
        for words, rest in CALL.findall(code):
            two, word = words.strip(), words.split()[0]
            calls.append(
                (two if two in COMMANDS or word == "benchmark" else word, re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", rest))
            )
    return calls


@pytest.mark.parametrize(
    ("config_class", "marker", "group"),
    [
        (CccPretrainingConfig, "task", "task"),
        (CccWav2Vec2Config, "model", "model"),
        (CccCriterionConfig, "criterion", "criterion"),
        (CapiCriterionConfig, "capi", "criterion"),
    ],
)
def test_every_setting_of_ours_is_in_the_reference_with_its_help(config_class, marker, group):
    table = hooks.table_for(marker)
    classes = [base for base in config_class.__mro__ if base.__module__.startswith("ccc_w2v")]
    names = {name for base in classes for name in base.__annotations__}
    own = [field for field in dataclasses.fields(config_class) if field.name in names]
    # Fields without help repeat another group's setting, for the plan line.
    shown = [field for field in own if not str(field.default).startswith("${")]
    assert shown
    for field in shown:
        row = next(line for line in table.splitlines() if line.startswith(f"| `{group}.{field.name}` |"))
        assert row.split(" | ")[2].strip(" |") != ""


def test_a_default_that_changes_changes_the_reference():
    changed = dataclasses.make_dataclass(
        "Changed", [("scale_factor", float, dataclasses.field(default=0.7, metadata={"help": "influence | left"}))]
    )
    row = hooks.settings_table(changed, "criterion").splitlines()[-1]
    assert row == r"| `criterion.scale_factor` | `0.7` | influence \| left |"


def test_every_transform_and_every_command_is_in_the_reference():
    transforms, commands = hooks.table_for("transforms"), hooks.table_for("commands")
    assert "### `background_noise`" in transforms
    assert "| `snr_db` | `[0, 15]` |" in transforms
    for words in COMMANDS:
        assert f"### ccc-w2v {words}\n\n```text\nusage: ccc-w2v {words}" in commands


def test_every_page_outside_docs_is_in_the_navigation():
    """What is not there, the strict build refuses."""
    nav = hooks.on_config(SimpleNamespace(nav=yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])).nav

    def listed(entries):
        for entry in entries:
            for pages in entry.values() if isinstance(entry, dict) else [entry]:
                yield from [pages] if isinstance(pages, str) else listed(pages)

    assert sorted(set(hooks.mounted()) - set(listed(nav))) == []


def test_an_unknown_marker_and_a_link_to_nothing_stop_the_build():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="method.md"))
    with pytest.raises(PluginError, match="unknown marker {{ nothing }}"):
        hooks.on_page_markdown("{{ nothing }}", page, None, None)
    with pytest.raises(PluginError, match=r"docs/method\.md: links to nothing\.md"):
        hooks.on_page_markdown("[a](nothing.md)", page, None, None)


def test_links_of_the_repository_become_links_of_the_site():
    def rendered(markdown: str, uri: str) -> str:
        return hooks.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri=uri)), None, None)

    assert rendered("[a](../recipes/launch/README.md#x)", "index.md") == "[a](recipes/launch/README.md#x)"
    assert rendered("[a](../../docs/benchmarks.md)", "recipes/librispeech/README.md") == "[a](../../benchmarks.md)"
    assert rendered("[a](RESULTS.md)", "recipes/librispeech/README.md") == "[a](RESULTS.md)"
    assert rendered("[presets](../recipes/augment)", "index.md") == "presets"


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(path):
    targets = [link[2] for link in hooks.LINK.finditer(path.read_text(encoding="utf-8")) if link[2]]
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_a_page_exist_with_their_options(path):
    mistakes = []
    for words, options in shown_calls(path.read_text(encoding="utf-8")):
        command, *benchmark = words.split() if words.startswith("benchmark ") else [words]
        if command in COMMANDS:
            known = hooks.help_of(command, COMMANDS[command].module, *benchmark)
            mistakes += [f"{words} {option}" for option in options if not re.search(rf"{option}\b", known)]
        elif not any(name.startswith(f"{words} ") for name in COMMANDS):
            mistakes.append(words)
    assert mistakes == []


def test_a_wrong_command_or_option_is_seen():
    text = "```bash\nccc-w2v decode --checkpoint a \\\n    --no-such b   # words\n```\n and `ccc-w2v nothing x`"
    assert shown_calls(text) == [("decode", ["--checkpoint", "--no-such"]), ("nothing", [])]
