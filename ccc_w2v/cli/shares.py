"""What commands with --shard share: their lines of a manifest, their record, and what a merge runs again."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccc_w2v.errors import InputError
from ccc_w2v.sharding import RECORD, Shard, ShardRecord, keep_shard, read_record, shard_folder

if TYPE_CHECKING:
    from ccc_w2v.data.manifest import Manifest

# Options that decide nothing of what comes out, or that are told otherwise.
IGNORED = {"shard", "out", "manifest", "overwrite", "jobs", "device", "search_processes", "old_spelling"}


@contextmanager
def lines_of_shard(
    options: argparse.Namespace, command: str, labels: Sequence[str] = ()
) -> Iterator[argparse.Namespace]:
    """Give the options of a command that reads --manifest and writes --out: with --shard, those of its share.

    The share is a manifest of its own, with its labels (``labels``: further kinds of them) beside it. As the block ends
    without an error, the shard is finished. Raises InputError for a shard that was made of something else, unless
    options.overwrite.
    """
    if options.shard is None:
        yield options
        return
    from ccc_w2v.data.labels import all_labels, read_labels, write_all_labels
    from ccc_w2v.data.manifest import read_manifest, write_manifest
    from ccc_w2v.run_folder import content_of

    manifest = read_manifest(options.manifest)
    kept = {kind: lines for kind in labels if (lines := read_labels(manifest, kind)) is not None}
    kept = {**all_labels(manifest), **kept}
    of: dict[str, Any] = {f"labels {kind}": content_of(Path(options.manifest).with_suffix(kind)) for kind in kept}
    decided = {name: value for name, value in vars(options).items() if name not in IGNORED and not callable(value)}
    of |= {name: content_of(value) if isinstance(value, (str, Path)) else value for name, value in decided.items()}
    out = Path(options.out)
    with share_of(manifest, options.manifest, out, options.shard, command, of, overwrite=options.overwrite) as share:
        start, end = share.lines.start, share.lines.stop
        own = share.folder / "data" / Path(options.manifest).name
        own.parent.mkdir(exist_ok=True)
        write_all_labels(manifest, own, {kind: lines[start:end] for kind, lines in kept.items()})
        write_manifest(own, manifest.root, [(entry.path, entry.samples) for entry in manifest.entries[start:end]])
        as_given = type(options.manifest)
        yield argparse.Namespace(**{**vars(options), "manifest": as_given(own), "out": share.folder / out.name})


@dataclass
class Share:
    """A share of a manifest: the folder to work in, the places of its lines, whether an earlier call has finished it.

    What is put into ``options`` stands in its record, for the merge.
    """

    folder: Path
    lines: range
    finished: bool
    options: dict[str, Any]


@contextmanager
def share_of(
    manifest: Manifest,
    source: str | Path,
    out: Path,
    shard: Shard,
    command: str,
    of: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Iterator[Share]:
    """Give a command its share of a manifest that was read from ``source``; as the block ends, the share is finished.

    Raises InputError for an ``out`` that is the manifest, and for a shard that was made of something else, unless
    ``overwrite``.
    """
    from ccc_w2v.data.manifest import manifest_digest
    from ccc_w2v.data.streams import whole_name
    from ccc_w2v.run_folder import refuse_input

    refuse_input([out], [manifest.source])
    start, end = shard.bounds(manifest.samples)
    same = {"manifest": manifest_digest(manifest.source), **of}
    options: dict[str, Any] = {"manifest": whole_name(source)}
    record = ShardRecord(command, shard.number, shard.count, end - start, len(manifest), same, options)
    finished = read_record(shard_folder(out, shard)) is not None
    folder = begin_shard(out, record, overwrite=overwrite)
    yield Share(folder, range(start, end), finished, options)
    keep_shard(folder, record)


def begin_shard(out: Path, record: ShardRecord, *, overwrite: bool = False) -> Path:
    """Make a shard's folder and return it; it counts as unfinished until keep_shard.

    Raises InputError where a finished shard of something else is there, unless ``overwrite``.
    """
    folder = shard_folder(out, record.shard)
    earlier = read_record(folder)
    if earlier is not None and not overwrite:
        others = [name for name in record.of if earlier.of.get(name) != record.as_json()["of"].get(name)]
        if others or earlier.command != record.command:
            raise InputError(
                f"{folder}: holds a shard made with other settings ({', '.join(others) or earlier.command}); name "
                "another output, or give --overwrite"
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    return folder


def keep_conversion(out: str | Path, shard: Shard, command: str, items: tuple[int, int], of: Mapping[str, Any]) -> None:
    """Write the record of a share that a command has converted in OUT itself: ``items`` of how many.

    What is left, the lists, the same command writes without --shard; the merge runs it.
    """
    words = {"words": words_without_shard(sys.argv[1:]), "folder": os.getcwd()}
    record = ShardRecord(command, shard.number, shard.count, *items, of, words)
    keep_shard(begin_shard(Path(out), record, overwrite=True), record)
    say_done(out, shard)


def say_done(out: str | Path, shard: Shard) -> None:
    """Tell that a share is done, and what comes after all of them."""
    print(f"shard {shard} is done; when all are: ccc-w2v merge {out}")


def words_without_shard(words: Sequence[str]) -> list[str]:
    """Return a command line without its --shard."""
    kept, skip = [], False
    for word in words:
        if not skip and word != "--shard" and not word.startswith("--shard="):
            kept.append(word)
        skip = word == "--shard"
    return kept


def run_again(record: ShardRecord) -> None:
    """Run the command of a record without --shard, in the folder that it was called in; InputError if it fails."""
    from ccc_w2v.cli.main import main

    with folder_of(record):
        if code := main([*record.command.split(), *record.options["words"]]):
            raise SystemExit(code)


@contextmanager
def folder_of(record: ShardRecord) -> Iterator[None]:
    """Work in the folder that a shard was made in, from which its relative paths count; InputError if it is gone."""
    folder, before = record.options["folder"], os.getcwd()
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder, in which the shards were made; merge where it can be seen")
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
