"""The transcripts of a finished chain as one small archive, which can go with a recipe's results.

A comparison of days may run on several machines, and outlive each: results.json and its paired tests need transcripts
alone, not the networks that wrote them. <folder>/<arm>_seed<N>.tar.xz holds made.json (what decided them), chain.json,
and ref.trn and hyp.trn of each cell, by the chain's own paths.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

from ccc_w2v.comparison.chain import claim_chain
from ccc_w2v.comparison.settings import Arm, Settings, arm_record, as_record
from ccc_w2v.errors import InputError
from ccc_w2v.files import whole, write_whole
from ccc_w2v.run_folder import content_of

MADE, CHAIN = "made.json", "chain.json"
TEXTS = ("ref.trn", "hyp.trn")
# A member is read into memory: a test set of a hundred hours has some megabytes of text.
MOST_BYTES = 1 << 28


def archive_of(folder: Path, arm: Arm, seed: int) -> Path:
    """Return where the transcripts of an arm with a seed are kept."""
    return folder / f"{arm.name}_seed{seed}.tar.xz"


def keep_transcripts(settings: Settings, arm: Arm, seed: int, folder: Path) -> Path:
    """Write the archive of a finished chain, or add the cells that it lacks; the same chain gives the same bytes.

    Raises InputError for an archive that is there and was made with other settings or by another run.
    """
    path = archive_of(folder, arm, seed)
    chain = settings.folder(arm, seed)
    made = _made(settings, arm)
    members = {MADE: json.dumps(made, indent=1).encode(), CHAIN: (chain / CHAIN).read_bytes()}
    members |= {name: (chain / name).read_bytes() for name in _names(settings, arm, seed)}
    if path.is_file():
        kept = _read(path)
        _check_made(kept, made, path)
        if differing := [name for name in members if name in kept and kept[name] != members[name]]:
            raise InputError(
                f"{path}: its {differing[0]} is of another run of this arm and seed than {chain} is; remove one of the "
                "two, or name another folder with --transcripts"
            )
        if kept.keys() >= members.keys():
            return path
        members = kept | members
    folder.mkdir(parents=True, exist_ok=True)
    with whole(path, overwrite=True) as partial, tarfile.open(partial, "w:xz", preset=9) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def take_transcripts(settings: Settings, arm: Arm, seed: int, folder: Path) -> bool:
    """Let a chain that has not finished be the archive's, if there is one; returns whether it was.

    Raises InputError for an archive that cannot be read, was made with other settings, or lacks a cell.
    """
    path = archive_of(folder, arm, seed)
    if not path.is_file() or settings.finished(arm, seed) is not None:
        return False
    names = _names(settings, arm, seed)
    members = _read(path)
    if lacking := [name for name in (CHAIN, *names) if name not in members]:
        raise InputError(
            f"{path}: lacks {lacking[0]}, which this comparison needs; name another folder with --transcripts"
        )
    _check_made(members, _made(settings, arm), path)
    claim_chain(settings.folder(arm, seed), arm)
    for name in names:
        target = settings.folder(arm, seed) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, members[name])
    write_whole(settings.folder(arm, seed) / CHAIN, members[CHAIN])
    return True


def _made(settings: Settings, arm: Arm) -> dict[str, Any]:
    """Return what decides a chain's numbers wherever it runs: language models by their content, not by their path."""
    searched = settings.language_model
    made = {
        "arm": arm_record(arm),
        "scale": as_record(settings)["scale"],
        "test set": content_of(settings.data / "test.ltr"),
        "language model": searched
        and {name: content_of(value) if isinstance(value, str) else value for name, value in vars(searched).items()},
    }
    return dict(json.loads(json.dumps(made)))


def _names(settings: Settings, arm: Arm, seed: int) -> list[str]:
    """Return the files of every cell, relative to the chain's folder."""
    chain = settings.folder(arm, seed)
    folders = [settings.transcripts(arm, seed, *cell).relative_to(chain) for cell in settings.cells]
    return [str(folder / name) for folder in folders for name in TEXTS]


def _read(path: Path) -> dict[str, bytes]:
    """Return the files of an archive by name; nothing is unpacked by the names that it has."""
    members = {}
    try:
        with tarfile.open(path, "r:xz") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.size <= MOST_BYTES else None
                if content is not None:
                    members[member.name] = content.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise _unreadable(path, error) from error
    return members


def _check_made(members: dict[str, bytes], wanted: dict[str, Any], path: Path) -> None:
    """Raise InputError for an archive that was not made as ``wanted`` says."""
    kept = _parsed(members.get(MADE, b""), path)
    if differing := [name for name in wanted if kept.get(name) != wanted[name]]:
        raise InputError(
            f"{path}: made with other settings ({', '.join(differing)}); name another folder with --transcripts"
        )


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable archive of transcripts ({error}); remove it")
