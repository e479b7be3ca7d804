"""Whose output a file or a folder is: a command resumes or repeats its own, and replaces nobody else's unasked.

Beside what it writes (or in it: JSON, HTML) a command leaves a record of everything that the content depends on. The
same settings find their own output again; other settings are refused until --overwrite is given, which also removes
what was made from the replaced files, such as the score of replaced hypotheses.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccc_w2v.errors import InputError
from ccc_w2v.files import sha256, write_whole

# The key under which a JSON output holds what it was made from, and the name of the meta element of an HTML page.
SETTINGS_KEY = "settings"
_META = re.compile(rf'<meta name="{SETTINGS_KEY}" content="([^"]*)">')
_HEAD_BYTES = 1 << 16  # of an HTML page; its audio comes later


def content_of(source: str | Path | None) -> str:
    """Return what stands for an option's value in a record: a file's SHA-256, else the value itself, "" for none."""
    if source is None:
        return ""
    return sha256(source) if Path(source).is_file() else str(source)


def add_overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Add --overwrite, as all commands that write have it."""
    parser.add_argument("--overwrite", action="store_true", help="replace output of another command or other settings")


@dataclass(frozen=True)
class Output:
    """What a command is about to write: the path that the user named, and all files and folders of it.

    ``settings`` is everything that decides the content, in words that a message can name ("checkpoint", "beam").
    ``record`` is where they are kept: a file of its own, or the JSON or HTML output itself. ``inputs`` are the files
    that the command reads; ``ignored`` are names in the record that decide nothing, as the path of a checkpoint.
    """

    name: Path
    settings: Mapping[str, Any]
    record: Path
    writes: Sequence[Path]
    inputs: Sequence[str | Path] = ()
    ignored: Sequence[str] = ()


def beside(path: str | Path) -> Path:
    """Return where the record of a file lies that cannot hold one itself: words.bin -> words.bin.settings.json."""
    return Path(f"{path}.settings.json")


def file_output(
    path: str | Path, settings: Mapping[str, str | Path | int | float | bool | None], inputs: Sequence[str | Path]
) -> Output:
    """Return a JSON or HTML file that holds its own settings; of the values that are files their content counts."""
    held = {name: content_of(value) if isinstance(value, (str, Path)) else value for name, value in settings.items()}
    return Output(Path(path), held, Path(path), [Path(path)], inputs)


def check(output: Output, *, overwrite: bool = False) -> bool:
    """Make sure that an output may be written; returns whether one of the same settings is there, whole or begun.

    Raises InputError for an output that the command reads and, without ``overwrite``, for one of other settings and for
    files that no record explains.
    """
    refuse_input(output.writes, output.inputs)
    if not any(path.exists() for path in (*output.writes, output.record)):
        return False
    recorded = recorded_settings(output.record)
    changed = [name for name in _differences(recorded, output.settings) if name not in output.ignored]
    if recorded is not None and not changed:
        return True
    if not overwrite:
        raise InputError(f"{output.name}: {_whose(recorded, changed)}; name another output, or give --overwrite")
    return False


def claim(output: Output, *, overwrite: bool = False) -> bool:
    """Do as check does, and remove with ``overwrite`` the output of other settings and what was made from it."""
    same = check(output, overwrite=overwrite)
    if not same:
        full = [path for path in output.writes if path.is_dir() and any(path.iterdir())]
        if full and recorded_settings(output.record) is None:
            raise InputError(f"{full[0]}: no record says that this command wrote this folder; move it away by hand")
        remove([*output.writes, output.record])
    return same


def _whose(recorded: Mapping[str, Any] | None, changed: Sequence[str]) -> str:
    if recorded is None:
        return "exists already, and no record says that this command wrote it"
    return f"exists already, made with other settings ({', '.join(changed)})"


def keep_record(output: Output) -> None:
    """Write the settings where they are kept, as the first thing that appears of an output."""
    write_whole(output.record, json.dumps(dict(output.settings), indent=2, default=str) + "\n")


def refuse_input(writes: Sequence[Path], inputs: Sequence[str | Path]) -> None:
    """Raise InputError when a file that would be written, or a folder of it, is one that is read."""
    read = {Path(source).resolve() for source in inputs if Path(source).exists()}
    for path in writes:
        if path.exists() and (path.resolve() in read or any(path.samefile(source) for source in read)):
            raise InputError(f"{path}: is what this command reads; name another output")


def recorded_settings(record: Path) -> dict[str, Any] | None:
    """Return what an output says that it was made from; None where it says nothing.

    Raises InputError for a record of settings alone that is damaged.
    """
    if not record.is_file():
        return None
    if record.suffix == ".html":
        with open(record, "rb") as page:
            meta = _META.search(page.read(_HEAD_BYTES).decode("utf-8", errors="replace"))
        return _as_settings(html.unescape(meta[1])) if meta else None
    content = _as_settings(record.read_text(encoding="utf-8", errors="replace"))
    if content is None:
        return None
    held = content.get(SETTINGS_KEY)
    return held if isinstance(held, dict) else content


def _as_settings(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _differences(recorded: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that differ, in the order of ``settings``; all values as JSON writes them."""
    wanted = json.loads(json.dumps(dict(settings), default=str))
    held = recorded or {}
    return [name for name in dict.fromkeys((*wanted, *held)) if held.get(name) != wanted.get(name)]


def remove(paths: Sequence[Path]) -> None:
    """Remove files and folders, and first what the folders around them hold that was made from one of the files."""
    for path in [*made_from(paths), *paths]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def made_from(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the JSON and HTML outputs beside ``paths`` whose settings hold the digest of one of these files."""
    digests = {sha256(path) for path in paths if path.is_file()}
    for folder in dict.fromkeys(path.parent for path in paths if path.parent.is_dir()):
        for other in sorted((*folder.glob("*.json"), *folder.glob("*.html"))):
            if other not in paths and digests & set(map(str, (recorded_settings(other) or {}).values())):
                yield other
