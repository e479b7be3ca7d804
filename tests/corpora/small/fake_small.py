"""The repositories that the corpus `small` comes from, in their layouts, with a few short recordings of everybody."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import soundfile

from ccc_w2v.corpora.small.lists import DEV_SPEAKERS, TEST_SPEAKERS, TRAIN_SPEAKERS, Recording, assigned_lists
from ccc_w2v.corpora.small.sources import ENDINGS, SOURCES, digest_of_recording, source_folder
from tests.corpora.librispeech.fake_librispeech import VOCABULARY
from tests.fake_corpora import RATE, speech_like

CLASSES = ("001 - Dog bark", "002 - Rain")
SUBSET_SECONDS = {"train_1h": 40, "train_10m": 20}


def write_repositories(root: Path, utterances: int = 2, seconds: tuple[float, float] = (1.0, 2.0)) -> Path:
    """Write the four repositories below ``root``, with ``utterances`` of every reader; returns root."""
    for speaker in map(int, TRAIN_SPEAKERS + DEV_SPEAKERS + TEST_SPEAKERS):
        _write_chapter(root / "Speaker_partition_module/data/LibriSpeech/dev-clean", speaker, utterances, seconds)
    for number, speaker in enumerate((103, 1034, 7113, 60)):
        _write(root / f"Resemblyzer/audio_data/librispeech_train-clean-100/{speaker}-1240-0000.flac", 1.5, number)
    (root / "Resemblyzer/audio_data/librispeech_train-clean-100/SPEAKERS.TXT").write_text("103 | F | train-clean-100\n")
    for number in range(4):
        _write(
            root / f"speech-to-intent-benchmark/data/speech/clean/0075d273-51bb-47cb-b323-{number:012}.wav", 1.2, number
        )
    for number, name in enumerate(CLASSES):
        for fold in (1, 2, 5):
            path = root / "ESC-10" / name / f"{fold}-{30000 + number}-A.ogg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([number, fold]).standard_normal(2 * 44100)
            soundfile.write(path, 0.1 * noise, 44100, format="OGG", subtype="VORBIS")
    return root


def pinned_lists(root: Path) -> dict[str, list[Recording]]:
    """Return what manifests/small_*.tsv would say of the repositories below ``root``."""
    lists = {}
    for name, source in SOURCES.items():
        folder = source_folder(source, root)
        files = {
            path.relative_to(folder).with_suffix("").as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.suffix in ENDINGS
        }
        samples = {stem: soundfile.info(path).frames for stem, path in files.items()}
        assigned = assigned_lists(name, samples, SUBSET_SECONDS)
        lists[name] = [
            Recording(stem, samples[stem], assigned[stem], digest_of_recording(path, lossless=source.lossless))
            for stem, path in files.items()
        ]
    return lists


def write_archive(root: Path, repository: str, commit: str) -> bytes:
    """Return a repository below ``root`` as GitHub packs it: REPOSITORY-COMMIT/... in a .tar.gz."""
    path = root / f"{repository}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(root / repository, arcname=f"{repository}-{commit}")
    return path.read_bytes()


def _write_chapter(folder: Path, speaker: int, utterances: int, seconds: tuple[float, float]) -> None:
    draw = np.random.default_rng(speaker)
    chapter = 10 * speaker + 1
    lines = []
    for number in range(utterances):
        length = draw.uniform(*seconds)
        name = f"{speaker}-{chapter}-{number:04}"
        # MP3 inside a file named .wav, as there.
        _write(folder / f"{speaker}/{chapter}/{name}.wav", length, chapter + number, format="MP3")
        lines.append(f"{name} {' '.join(draw.choice(VOCABULARY.split(), size=max(1, round(2 * length))))}\n")
    (folder / f"{speaker}/{chapter}/{speaker}-{chapter}.trans.txt").write_text("".join(lines))


def _write(path: Path, seconds: float, seed: int, **format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech_like(round(RATE * seconds), seed), RATE, **format)
