"""NIST's own scoring of .ctm against .stm where sctk is installed (Debian package sctk): csrfilt.sh, sclite."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ccc_w2v.data.stm import Stm, TimedWord, write_ctm, write_stm
from ccc_w2v.score.hub5.align import in_order, words_in_order
from ccc_w2v.score.hub5.lattice import Place, read_token
from ccc_w2v.score.wer import Counts

_PATH = re.compile(r'<PATH [^\n]*word_cnt="(\d+)"[^\n]*sequence="(\d+)"[^\n]*>\n(.*)\n</PATH>')
_PLACE = re.compile(r'([CSDI]),(?:"(.*?)")?,(?:"(.*?)")?(?:,[\d.+-]*)?(?::|$)')


def command(name: str) -> list[str]:
    """Return the command line of one of sctk's programs, which Debian puts behind the one name sctk."""
    return ["sctk", name] if shutil.which("sctk") else [shutil.which(name) or f"/usr/lib/sctk/bin/{name}"]


def installed() -> bool:
    """Whether sclite can be run."""
    return shutil.which(command("sclite")[0]) is not None


def version() -> str:
    """Return sclite's name and version as it prints them."""
    printed = subprocess.run(command("sclite"), capture_output=True, text=True, check=False)
    match = re.search(r"sclite Version: (\S+), SCTK Version: (\S+)", printed.stdout + printed.stderr)
    return f"sclite {match[1]}, SCTK {match[2]}" if match else "sclite of unknown version"


def run_sclite(stm: Stm, words: Sequence[TimedWord], glm: str | Path) -> list[tuple[Counts, list[Place]]]:
    """Return sclite's counts and alignment of each segment that counts, in hubscr's order.

    The hypothesis goes there without confidences: csrfilt.sh takes the confidence of a word that the GLM deletes for a
    word. Raises RuntimeError where a program fails or says something else than it was asked.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_stm(folder / "ref.stm", _renamed(in_order(stm)), stm.definitions)
        write_ctm(folder / "hyp.ctm", (replace(word, confidence=None) for word in _renamed(words_in_order(words))))
        reference = _filter(folder / "ref.stm", "stm", "ref", Path(glm).resolve())
        hypothesis = _filter(folder / "hyp.ctm", "ctm", "hyp", Path(glm).resolve())
        files = ["-r", str(reference), "stm", "-h", str(hypothesis), "ctm", "hyp"]
        report = _run([*command("sclite"), *files, "-F", "-D", "-o", "sgml", "stdout"], folder)
    matches = sorted(_PATH.findall(report), key=lambda path: int(path[1]))
    expected = sum(not segment.ignored for segment in stm.segments)
    if len(matches) != expected:
        raise RuntimeError(f"sclite aligned {len(matches)} segments of {expected}")
    return [_read_path(content, int(places)) for places, _, content in matches]


def _renamed(entries: Iterable) -> list:
    """Lower the names' case, as sclite does after it has compared their order."""
    return [replace(entry, recording=entry.recording.lower(), channel=entry.channel.lower()) for entry in entries]


def _filter(path: Path, kind: str, side: str, glm: Path) -> Path:
    filtered = _run([*command("csrfilt.sh"), "-i", kind, "-t", side, "-dh", str(glm)], path.parent, path.read_text())
    written = path.with_suffix(".filt")
    written.write_text(filtered, encoding="utf-8")
    return written


def _run(arguments: list[str], folder: Path, standard_input: str | None = None) -> str:
    """Run a program in the C locale, which NIST's scripts are made for, and with its neighbours at hand."""
    beside = Path(shutil.which(arguments[0]) or arguments[0]).parent
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    done = subprocess.run(
        arguments,
        input=standard_input,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=folder,
        env=environment,
    )
    # csrfilt.sh goes on, without text, where rfilter1 stops or is missing.
    if done.returncode != 0 or "*ERR" in done.stdout + done.stderr or "not found" in done.stderr:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise RuntimeError(f"{' '.join(arguments[:2])} stopped with exit code {done.returncode}: {said}")
    return done.stdout


def _read_path(content: str, places: int) -> tuple[Counts, list[Place]]:
    matches = _PLACE.findall(content)
    if len(matches) != places:
        raise RuntimeError(f"sclite's alignment holds {places} places, {len(matches)} of them were read: {content!r}")
    kinds = [kind for kind, _, _ in matches]
    substitutions, deletions, insertions, right = (kinds.count(kind) for kind in "SDIC")
    counts = Counts(substitutions, deletions, insertions, right + substitutions + deletions)
    return counts, [
        (read_token(left) if left else None, read_token(heard) if heard else None) for _, left, heard in matches
    ]
