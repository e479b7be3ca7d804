"""Where the corpus `small` comes from: four public repositories at pinned commits, as archives or as folders.

GitHub packs an archive when it is asked for one, without a published size or checksum, and may pack it differently
tomorrow: so every recording is compared with its pinned digest after unpacking, not the archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ccc_w2v.corpora.download import LONG_ATTEMPTS, DownloadError, fetch, unpack
from ccc_w2v.corpora.small.lists import Recording
from ccc_w2v.data.sound_file import read_sound
from ccc_w2v.errors import InputError

CODELOAD = "https://codeload.github.com"
ENDINGS = (".flac", ".wav", ".ogg")
DIGITS = 16


@dataclass(frozen=True)
class Source:
    """A repository: its owner and name, commit, the folder its recordings lie in, their licence, lossless or not."""

    repository: str
    commit: str
    folder: str
    licence: str
    lossless: bool

    @property
    def name(self) -> str:
        """Return the repository's name without its owner."""
        return self.repository.split("/")[1]


SOURCES = {
    "librispeech": Source(
        "felixbastian/Speaker_partition_module",
        "c2c3a432e784513db56389a2c0a9983953a5f572",
        "data/LibriSpeech/dev-clean",
        "CC BY 4.0",
        lossless=False,
    ),
    "speakers": Source(
        "resemble-ai/Resemblyzer",
        "15d828edebe06bc72b9cabc8ef8ca5ab2cb457ce",
        "audio_data/librispeech_train-clean-100",
        "CC BY 4.0",
        lossless=True,
    ),
    "commands": Source(
        "Picovoice/speech-to-intent-benchmark",
        "47b1ca63afe4f08cb83e1f70fec16764879bd130",
        "data/speech",
        "Apache-2.0",
        lossless=True,
    ),
    "noises": Source("karolpiczak/ESC-10", "553c8f1743b9dba6b282e1323c3ca8fa76923448", "", "CC BY 3.0", lossless=False),
}


def source_folder(source: Source, folder: Path) -> Path:
    """Return the folder of a source's recordings below one that holds the repository, unpacked or cloned.

    Raises InputError where there is none.
    """
    for root in (
        folder / source.name,
        folder / f"{source.name}-{source.commit}",
        *sorted(folder.glob(source.name + "-*")),
    ):
        if (root / source.folder).is_dir():
            return root / source.folder
    raise InputError(
        f"{folder}: holds no {Path(source.name, source.folder)}; unpack {archive_url(source)} there, "
        "or leave --from away and it is fetched"
    )


def archive_url(source: Source, server: str = CODELOAD) -> str:
    """Return the address of a repository's archive at its commit."""
    return f"{server}/{source.repository}/tar.gz/{source.commit}"


def fetch_source(source: Source, downloads: Path, server: str = CODELOAD) -> Path:
    """Fetch and unpack a repository below ``downloads`` unless it is there, and return its recordings' folder.

    An archive put there by hand, REPOSITORY-COMMIT.tar.gz or .zip, is taken. Raises InputError where it cannot be
    fetched, is damaged, or does not hold the folder; what has arrived is kept for the next call.
    """
    folder = downloads / source.name
    stem = f"{source.name}-{source.commit}"
    try:
        if not folder.is_dir():
            by_hand = [path for path in (downloads / f"{stem}{end}" for end in (".tar.gz", ".zip")) if path.is_file()]
            url = archive_url(source, server)
            archive = (by_hand or [fetch(url, downloads / f"{stem}.tar.gz", lambda: None, attempts=LONG_ATTEMPTS)])[0]
            unpack(archive, folder)
            archive.unlink()
    except DownloadError as error:
        raise InputError(
            f"{error}; call again, or put {stem}.zip from GitHub into {downloads}, or pass unpacked folders as --from"
        ) from error
    return source_folder(source, folder)


def find_recordings(folder: Path, recordings: Iterable[Recording], what: str) -> dict[Recording, Path]:
    """Return the file of each recording below ``folder``, in any format; raises InputError where one is missing."""
    files = {
        recording: next(
            (path for path in (folder / f"{recording.name}{end}" for end in ENDINGS) if path.is_file()), None
        )
        for recording in recordings
    }
    missing = [recording.name for recording, path in files.items() if path is None]
    if missing:
        raise InputError(
            f"{folder}: lacks {len(missing)} of the {len(files)} recordings of {what}, the first is {missing[0]} "
            f"({', '.join(ENDINGS)}); unpack it again"
        )
    return {recording: path for recording, path in files.items() if path is not None}


def require_pinned(files: dict[Recording, Path], *, lossless: bool) -> None:
    """Compare every file with its pinned digest; raises InputError where one is not what the lists were made of."""
    bad = [
        path
        for recording, path in tqdm(files.items(), desc="checking", unit="file", leave=False)
        if digest_of_recording(path, lossless=lossless) != recording.digest
    ]
    if bad:
        raise InputError(
            f"{bad[0]}: is not the recording that manifests/ pins ({len(bad)} of {len(files)} are not); unpack the "
            "archive of the pinned commit again"
        )


def digest_of_recording(path: Path, *, lossless: bool) -> str:
    """Return the first digits of the MD5 of a recording: of its samples as 16 bit integers, or of its bytes.

    What a lossless file holds is the same in any container; what a lossy one decodes to depends on the decoder.
    """
    if not lossless:
        return hashlib.md5(path.read_bytes()).hexdigest()[:DIGITS]
    wave, _ = read_sound(path, dtype="int16")
    return hashlib.md5(wave.astype("<i2").tobytes()).hexdigest()[:DIGITS]
