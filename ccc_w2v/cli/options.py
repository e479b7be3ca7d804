"""The idiom of all subcommands' options, and spellings of earlier versions, which still work but are not shown.

What a command is about stands alone: a manifest (check, pack, speed), a folder of recordings (manifest, segment), runs
(resume, health, plot, probe-watch, summarize), a checkpoint to import, systems (compare, report), shards (merge).
Everything else has a name, and one name means one thing: ``--data`` a folder of manifests, ``--manifest`` one manifest,
``--checkpoint`` a model, ``--from`` what a command starts from, ``--url`` where it is fetched, ``--out`` what is
written, ``--overwrite``, ``--device``, ``--gpus``, ``--jobs`` (how many things side by side), ``--shard`` (a share of
the work), ``--seed``, ``--normalize`` (text rules).
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Any


def command_parser(documentation: str | None) -> argparse.ArgumentParser:
    """Return a command's parser, whose help begins with the documentation of its module, the examples indented."""
    paragraphs = (documentation or "").strip().split("\n\n")
    # Where nothing but examples follows the first sentence, the formatter takes their indentation away.
    shown = [textwrap.indent(text, "    ") if text.startswith("ccc-w2v ") else text for text in paragraphs]
    return argparse.ArgumentParser(description="\n\n".join(shown), formatter_class=argparse.RawDescriptionHelpFormatter)


def add_old_spelling(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Let ``old`` mean the option whose destination is ``new``, without showing it in the help."""
    action = next(action for action in parser._actions if action.dest == new)
    same: dict[str, Any] = {"type": action.type, "nargs": action.nargs}
    parser.add_argument(old, dest=new, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **same)


def parse_subject(parser: argparse.ArgumentParser, name: str, old: str) -> argparse.Namespace:
    """Parse a command line whose positional ``name``, added with nargs="?", may also be written as option ``old``."""
    positional = next(action for action in parser._actions if action.dest == name)
    same: dict[str, Any] = {"type": positional.type}
    parser.add_argument(old, dest="old_spelling", help=argparse.SUPPRESS, **same)
    options = parser.parse_args()
    value = options.old_spelling if getattr(options, name) is None else getattr(options, name)
    if value is None:
        parser.error(f"the following arguments are required: {positional.metavar or name}")
    setattr(options, name, value)
    return options
