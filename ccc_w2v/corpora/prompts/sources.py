"""Where the voice prompts come from: a folder that is given, the upstream release, or Debian packages, in that order.

Each source ends as a folder on disk, below which `locate` finds the recordings and their transcripts. Downloads
continue where they stopped, and an unpacked folder appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ccc_w2v.corpora.download import TIMEOUT_SECONDS, Checksum, DownloadError, fetch, unpack
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing

RELEASE = "1.6.1"
UPSTREAM = "https://downloads.asterisk.org/pub/telephony/sounds/releases/"
LANGUAGES = ("en", "es", "fr", "it", "ru")
APT_OPTIONS = ("-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20")


class SourceUnavailableError(Exception):
    """One source cannot give the recordings; the next one is tried."""


class _ListsMissingError(SourceUnavailableError):
    """apt-get does not know the packages, as where its lists were never fetched or have been removed."""


@dataclass(frozen=True)
class PromptRelease:
    """One language on disk: the folder of .wav files, the transcript file, and one line on where they came from."""

    language: str
    origin: str
    sounds: Path
    transcripts: Path


def find_recordings(
    language: str, downloads: Path, source: str | Path | None = None, upstream: str = UPSTREAM
) -> PromptRelease:
    """Return one language's recordings, fetched into ``downloads`` unless a ``source`` folder is given.

    Raises InputError when the given folder does not hold them, or when neither upstream nor Debian can be reached.
    """
    if source is not None:
        return locate(Path(source), language, f"folder {Path(source).resolve()}")
    reasons = []
    for fetch_source in (_fetch_release, _fetch_packages):
        try:
            folder, origin = fetch_source(language, downloads, upstream)
        except SourceUnavailableError as reason:
            print(f"[{language}] {reason}", flush=True)
            reasons.append(str(reason))
        else:
            return locate(folder, language, origin)
    raise InputError(
        f"no source of the voice prompts can be reached ({'; '.join(reasons)}): install the Debian packages "
        f"{' and '.join(_packages(language))} and pass --from /usr/share/asterisk, or unpack {_release(language)} "
        f"from {UPSTREAM} and pass its folder as --from"
    )


def locate(folder: Path, language: str, origin: str) -> PromptRelease:
    """Find the recordings and core-sounds-XX.txt(.gz) below a folder, the latter also above it or in a doc folder near.

    Raises InputError when the folder, the recordings or the transcripts are not there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --from takes the folder where the voice prompts were unpacked")
    sounds = _sounds_folder(folder.resolve(), language)
    if sounds is None:
        raise InputError(
            f"{folder}: no voice prompts of language '{language}' below it (expected .wav files such as "
            f"digits/1.wav); unpack {_release(language)} there or install {_packages(language)[0]}"
        )
    text = _transcript_file(folder.resolve(), sounds, language)
    if text is None:
        raise InputError(
            f"{folder}: holds recordings but no core-sounds-{language}.txt or .txt.gz, in it or in a doc folder beside "
            f"it; copy that file there (Debian package {_packages(language)[1]}, upstream {_release(language)})"
        )
    return PromptRelease(language, origin, sounds, text)


def _sounds_folder(folder: Path, language: str) -> Path | None:
    """Return the folder that holds digits/*.wav of a language: named for it, or of no language's name if alone."""
    # The collection also exists with Australian and British speakers: "en" means the one US speaker here.
    own = re.compile(r"en([_-]US.*)?" if language == "en" else rf"{language}([_-].*)?")
    other = re.compile(r"[a-z]{2}([_-][A-Z]{2}.*)?")
    folders = sorted({digits.parent for digits in folder.rglob("digits") if any(digits.glob("*.wav"))})
    names = {sounds: [folder.name, *sounds.relative_to(folder).parts] for sounds in folders}
    named = [sounds for sounds in folders if any(own.fullmatch(part) for part in names[sounds])]
    unnamed = [sounds for sounds in folders if not any(other.fullmatch(part) for part in names[sounds])]
    with_text = [sounds for sounds in folders if _beside(sounds, language)]
    for choice in (with_text, named, unnamed if language == "en" else []):
        if choice:
            return choice[0]
    return None


def _beside(folder: Path, language: str) -> Path | None:
    names = (f"core-sounds-{language}.txt", f"core-sounds-{language}.txt.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _transcript_file(folder: Path, sounds: Path, language: str) -> Path | None:
    for name in (f"core-sounds-{language}.txt", f"core-sounds-{language}.txt.gz"):
        if below := sorted(folder.rglob(name)):
            return below[0]
    package = _packages(language)[1]
    for above in (sounds, *sounds.parents):
        for place in (above, above / "doc" / package, above / "share" / "doc" / package):
            if transcript := _beside(place, language):
                return transcript
    return None


def _release(language: str) -> str:
    return f"asterisk-core-sounds-{language}-wav-{RELEASE}.tar.gz"


def _packages(language: str) -> tuple[str, str]:
    """Return the Debian packages of the recordings and of the transcripts."""
    return f"asterisk-core-sounds-{language}-wav", f"asterisk-core-sounds-{language}"


def _fetch_release(language: str, downloads: Path, upstream: str) -> tuple[Path, str]:
    name = _release(language)
    folder = downloads / name.removesuffix(".tar.gz")
    origin = f"upstream release {name}"
    if folder.is_dir():
        return folder, origin
    try:
        unpack(fetch(upstream + name, downloads / name, lambda: _published_sha1(upstream + name)), folder)
    except DownloadError as error:
        raise SourceUnavailableError(str(error)) from error
    return folder, origin


def _fetch_packages(language: str, downloads: Path, _upstream: str) -> tuple[Path, str]:
    folder = downloads / f"debian-{language}"
    if not folder.is_dir():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise SourceUnavailableError("the Debian packages need apt-get and dpkg, which are not on this system")
        # The folder stays after a kill: apt-get takes up what it finds there, and verifies every hash itself.
        with appearing(folder, durable=False, resumable=True) as partial:
            partial.mkdir(exist_ok=True)
            names = _packages(language)
            print(f"[{language}] fetching the Debian packages {' and '.join(names)}", flush=True)
            try:
                _run(["apt-get", *APT_OPTIONS, "download", *names], partial)
            except _ListsMissingError:
                _download_by_own_lists(language, names, partial, downloads.resolve())
            for package in sorted(partial.glob("*.deb")):
                _run(["dpkg", "-x", package.name, "."], partial)
    return folder, "Debian packages " + " and ".join(sorted(package.stem for package in folder.glob("*.deb")))


def _download_by_own_lists(language: str, names: Sequence[str], folder: Path, downloads: Path) -> None:
    """Download packages by the lists among the downloads, which are fetched unless they serve already."""
    options = [*APT_OPTIONS, *_own_lists(downloads)]
    # Another language has fetched them, or an earlier call: then they may name packages that are gone.
    with contextlib.suppress(SourceUnavailableError):
        _run(["apt-get", *options, "download", *names], folder)
        return
    print(f"[{language}] apt-get has no package lists here (a container?); fetching them", flush=True)
    _run(["apt-get", *options, "update"], folder)
    _run(["apt-get", *options, "download", *names], folder)


def _own_lists(downloads: Path) -> list[str]:
    """Return the options with which apt-get keeps package lists among the downloads, which needs no root."""
    lists = downloads / "apt-lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    no_caches = ("Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache=")
    settings = (f"Dir::State::Lists={lists}", *no_caches, "APT::Sandbox::User=root")
    return [word for setting in settings for word in ("-o", setting)]


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith(("E:", "dpkg"))] or ["no message"]
        lists = "Unable to locate package" in result.stderr or "Can't select" in result.stderr
        raise (_ListsMissingError if lists else SourceUnavailableError)(f"{command[0]} failed ({errors[0].strip()})")


def _published_sha1(url: str) -> Checksum | None:
    """Return the SHA-1 that upstream publishes beside an archive."""
    try:
        with urllib.request.urlopen(f"{url}.sha1", timeout=TIMEOUT_SECONDS) as response:
            match = re.match(rb"[0-9a-f]{40}\b", response.read(1000).strip().lower())
    except (OSError, http.client.HTTPException):
        match = None
    if match is None:
        print(f"{url}.sha1: not to be had; the archive's own checksums must do", flush=True)
        return None
    return "sha1", match.group().decode()
