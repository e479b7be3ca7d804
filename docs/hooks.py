"""What mkdocs does beside rendering docs/: tables from the code, pages from elsewhere in the repository, their links.

- ``{{ task }}``, ``{{ model }}``, ``{{ criterion }}``, ``{{ capi }}``, ``{{ transforms }}`` and ``{{ commands }}`` in a
  page become tables made from the dataclasses and the command line at build time, so that they cannot go stale.
- README.md and RESULTS.md of every recipe, CONTRIBUTING.md, SECURITY.md and CHANGELOG.md are pages of the manual too.
- Links between pages are written for a reader of the repository; on the site a link to any other file is plain text.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import importlib
import logging
import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s#]*)(#[^)]*)?\)")
RECIPE_TITLES = {"prompts": "The demo", "small": "Small comparison", "librispeech": "LibriSpeech"}


def mounted() -> list[str]:
    """Return the pages outside docs/, as paths below the repository's root."""
    recipes = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("recipes/*/*.md"))
    return [*recipes, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation: the recipes' pages, and the evidence where it has been written."""
    # Importing fairseq lets every logger of the process speak.
    logging.getLogger("MARKDOWN").setLevel(logging.WARNING)
    assert config.nav is not None
    sections = {title: pages for entry in config.nav for title, pages in entry.items()}
    pages: dict[str, list[dict[str, str] | str]] = {}
    for path in mounted():
        _, recipe, name = path.split("/") if path.startswith("recipes/") else ("", "launch", "")
        if recipe == "launch":
            continue
        title = RECIPE_TITLES.get(recipe, recipe.capitalize())
        titles = {"README.md": title, "RESULTS.md": f"{title}: results"}
        # Another page is called what its heading says.
        pages.setdefault(recipe, []).append({titles[name]: path} if name in titles else path)
    order = [*RECIPE_TITLES, *sorted(pages.keys() - RECIPE_TITLES.keys())]
    sections["Recipes"].extend(page for recipe in order for page in pages.get(recipe, []))
    if (ROOT / "docs" / "evidence.md").is_file():
        sections["Background"].append({"Evidence": "evidence.md"})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for path in mounted():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the markers by their tables and the repository's links by the site's."""
    outside = mounted()
    source = page.file.src_uri if page.file.src_uri in outside else f"docs/{page.file.src_uri}"

    def site_link(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            raise PluginError(f"{source}: links to {target}, which does not exist")
        if path in outside:
            uri = path
        elif path.startswith("docs/") and path.endswith(".md"):
            uri = path.removeprefix("docs/")
        else:
            return text
        return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return MARKER.sub(lambda marker: table_for(marker[1]), LINK.sub(site_link, markdown))


def table_for(marker: str) -> str:
    """Return the Markdown that a marker stands for; raises PluginError for an unknown one."""
    if marker not in TABLES:
        raise PluginError(f"unknown marker {{{{ {marker} }}}}; known: {', '.join(TABLES)}")
    return TABLES[marker]()


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; cells may hold any text."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings_table(config_class: type, prefix: str) -> str:
    """Return the fields of a configuration dataclass: those that it adds, then those of fairseq's that it inherits."""
    classes = [config_class, *(base for base in config_class.__mro__ if base.__module__.startswith("ccc_w2v"))]
    ours = {name for base in classes for name in vars(base).get("__annotations__", {})}
    own, inherited = [], []
    for field in dataclasses.fields(config_class):
        if "help" not in field.metadata:
            continue
        row = [f"`{prefix}.{field.name}`", default_of(field), values_of(field) + escape(field.metadata["help"])]
        (own if field.name in ours else inherited).append(row)
    header = ("key", "default", "meaning")
    parts = [markdown_table(header, own)] if own else []
    if inherited:
        parts += [f"### Inherited from fairseq: `{prefix}`", markdown_table(header, inherited)]
    return "\n\n".join(parts)


def default_of(field: dataclasses.Field[Any]) -> str:
    """Return a field's default as a cell: a value, where it comes from, or that it must be set."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if value == "???":
        return "required"
    if value is None:
        return "none"
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str) and (reference := re.fullmatch(r"\$\{(.+)\}", value)):
        return f"as `{reference[1]}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "empty"


def values_of(field: dataclasses.Field[Any]) -> str:
    """Return the words that a field takes, as the beginning of its meaning; "" for one that takes any value."""
    kind = field.type
    words = [str(word.value) for word in kind] if isinstance(kind, enum.EnumMeta) else []
    return f"{', '.join(f'`{word}`' for word in words)}: " if words else ""


def escape(text: str) -> str:
    """Return a help text as Markdown that shows it as it is."""
    return re.sub(r"([*_<>`])", r"\\\1", " ".join(text.split()))


def transforms_table() -> str:
    """Return every transform of the augmentation with the settings of its YAML entry."""
    from ccc_w2v.augment.pipeline import TRANSFORMS

    parts = []
    for name, transform in TRANSFORMS.items():
        first = escape((transform.__doc__ or "").split("\n\n")[0])
        parts.append(f"### `{name}`\n\n{first}")
        fields = [field for field in dataclasses.fields(transform) if field.metadata]
        if fields:
            rows = [[f"`{field.name}`", _yaml_default(field), escape(field.metadata["help"])] for field in fields]
            parts.append(markdown_table(("key", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _yaml_default(field: dataclasses.Field[Any]) -> str:
    if override := field.metadata["override"]:
        return f"`task.{override}`"
    value = field.default
    return f"`[{value.low:g}, {value.high:g}]`" if hasattr(value, "low") else f"`{value}`"


def commands_table() -> str:
    """Return every subcommand of ccc-w2v with its own help."""
    from ccc_w2v.cli.main import GROUPS

    parts = []
    for title, commands in GROUPS.items():
        parts.append(f"## {title}")
        for command in commands:
            parts.append(f"### ccc-w2v {command.words}\n\n```text\n{help_of(command.words, command.module)}\n```")
    return "\n\n".join(parts)


def help_of(words: str, module: str, *subcommand: str) -> str:
    """Return what `ccc-w2v WORDS SUBCOMMAND --help` prints, 100 columns wide."""
    shown: list[str] = []
    main = importlib.import_module(f"ccc_w2v.cli.{module}").main
    with (
        mock.patch("sys.argv", [f"ccc-w2v {words}", *subcommand, "--help"]),
        mock.patch.dict("os.environ", COLUMNS="100"),
        mock.patch.object(argparse.ArgumentParser, "_print_message", lambda _, text, file=None: shown.append(text)),
        contextlib.suppress(SystemExit),
    ):
        main()
    if not shown:
        raise PluginError(f"ccc-w2v {words} --help prints nothing")
    return "".join(shown).rstrip()


def _configurations(name: str, prefix: str, module: str) -> Callable[[], str]:
    def table() -> str:
        config_class = getattr(importlib.import_module(f"ccc_w2v.{module}"), name)
        return settings_table(config_class, prefix)

    return table


TABLES: dict[str, Callable[[], str]] = {
    "task": _configurations("CccPretrainingConfig", "task", "settings.task"),
    "model": _configurations("CccWav2Vec2Config", "model", "settings.model"),
    "criterion": _configurations("CccCriterionConfig", "criterion", "settings.criterion"),
    "capi": _configurations("CapiCriterionConfig", "criterion", "capi"),
    "transforms": transforms_table,
    "commands": commands_table,
}
