"""The corpus `small`: four hours of English by more than 300 speakers, for comparing ways of pre-training in hours.

Put together for this project in 2026 from what lies in public GitHub repositories: half of LibriSpeech dev-clean (20
speakers, 2.70 h, with transcripts; MP3 inside files named .wav, nothing above 6 kHz), one utterance of each of the 251
speakers of train-clean-100 (0.87 h), spoken commands of more than 50 unnamed speakers (1.48 h), and the noises of three
folds of ESC-10. The speakers of dev-clean are split once: 12 to train on, 2 to tune on, 6 to test on, and no book is in
two splits. LibriSpeech's own FLAC files of the same utterances do as well, and any of its parts, or mini LibriSpeech's,
may take the place of the untranscribed hours, so that a comparison grows without a new recipe.

What `prepare` writes into a folder, manifests in fairseq's format:
    unlabelled.tsv                                  for pre-training: the labelled speakers and all untranscribed hours
    {train,train_1h,train_10m,dev,test}.{tsv,wrd,ltr}   transcribed; a subset contains every smaller one; dict.ltr.txt
    noise_train.tsv, noise_test.tsv                 folds 1 and 2 of ESC-10, and fold 5, for testing only
    audio/<source>/**/*.flac                        what was not mono at 16 kHz; the rest is read as is
    small.json                                      what was done, written last
    download/                                       what was fetched
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from tqdm import tqdm

from ccc_w2v.corpora.labels import write_labels
from ccc_w2v.corpora.librispeech.splits import letter_dictionary
from ccc_w2v.corpora.librispeech.tree import transcripts_of
from ccc_w2v.corpora.small.lists import (
    DEV_SPEAKERS,
    LABELLED,
    LISTS,
    SAMPLE_RATE,
    TEST_SPEAKERS,
    Recording,
    pinned_list,
    require_unheard,
    speaker_of,
)
from ccc_w2v.corpora.small.sources import (
    CODELOAD,
    SOURCES,
    fetch_source,
    find_recordings,
    require_pinned,
    source_folder,
)
from ccc_w2v.data.audio import audio_samples
from ccc_w2v.data.manifest import Manifest, read_manifest, write_manifest
from ccc_w2v.data.resample import resampled_pcm
from ccc_w2v.data.sound_file import open_sound, read_sound
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing, write_whole

DEV_CLEAN = "dev-clean"


def prepare(
    out: str | Path,
    *,
    source: str | Path | None = None,
    librispeech: str | Path | None = None,
    unlabelled: Sequence[str] = (),
    server: str = CODELOAD,
) -> dict[str, Any]:
    """Fetch the corpus, or take it from the folder ``source`` of unpacked repositories, and write its manifests.

    ``librispeech`` is a tree of LibriSpeech or mini LibriSpeech: its dev-clean, if it is there, gives the transcribed
    utterances, and its parts ``unlabelled`` replace the untranscribed ones, without the speakers of dev and test.
    Returns small.json. Raises InputError where a recording is missing or is not the pinned one.
    """
    out = Path(out).resolve()
    if unlabelled and librispeech is None:
        raise InputError("--unlabelled names parts of LibriSpeech; pass the folder that holds them as --librispeech")
    tree = None if librispeech is None else _tree(Path(librispeech), unlabelled)
    options = {
        "source": None if source is None else str(Path(source).resolve()),
        "librispeech": None if tree is None else str(tree),
        "unlabelled": list(unlabelled),
    }
    if (done := _finished(out, options)) is not None:
        print(f"{out}: prepared already; nothing to do")
        return done
    lists, labels, origin = _recordings(out, source, tree, unlabelled, server)
    require_unheard({name: [str(path) for path in files] for name, files in lists.items()})
    (out / "small.json").unlink(missing_ok=True)
    sizes = {name: _write_list(out, name, files, labels) for name, files in lists.items()}
    write_whole(out / "dict.ltr.txt", letter_dictionary())
    done = {"options": options, "origin": origin, "lists": sizes}
    write_whole(out / "small.json", json.dumps(done, indent=1) + "\n")
    return done


def check(out: str | Path) -> None:
    """Raise InputError where a prepared folder lets training hear what is tested on."""
    require_unheard(
        {name: [entry.path for entry in read_manifest(Path(out) / f"{name}.tsv").entries] for name in LISTS}
    )


def _recordings(
    out: Path, source: str | Path | None, tree: Path | None, unlabelled: Sequence[str], server: str
) -> tuple[dict[str, list[Path]], dict[Path, str], dict[str, str]]:
    """Return the files of each list, the words of each transcribed file, and where each source was taken from."""
    lists: dict[str, list[Path]] = {name: [] for name in LISTS}
    labels: dict[Path, str] = {}
    origin: dict[str, str] = {}
    for name, repository in SOURCES.items():
        if unlabelled and name in ("speakers", "commands"):
            continue
        recordings = pinned_list(name)
        if name == "librispeech" and tree is not None and (tree / DEV_CLEAN).is_dir():
            folder = tree / DEV_CLEAN
            files = find_recordings(folder, recordings, "LibriSpeech dev-clean")
        else:
            folder = (
                source_folder(repository, Path(source).resolve())
                if source
                else fetch_source(repository, out / "download", server)
            )
            files = find_recordings(folder, recordings, repository.repository)
            require_pinned(files, lossless=repository.lossless)
        origin[name] = str(folder)
        if name == "librispeech":
            labels = _transcripts(files)
        ready = _usable(out / "audio" / name, files)
        labels |= {ready[recording]: labels[path] for recording, path in files.items() if path in labels}
        for recording, path in ready.items():
            for list_name in recording.lists:
                lists[list_name].append(path)
    for part in unlabelled:
        assert tree is not None
        origin[part] = str(tree / part)
        lists["unlabelled"] += _heard_files(tree / part, set(lists["unlabelled"]))
    return lists, labels, origin


def _tree(folder: Path, parts: Sequence[str]) -> Path:
    """Return the folder that holds LibriSpeech's parts: ``folder``, or LibriSpeech in it."""
    wanted = list(parts) or [DEV_CLEAN]
    for root in (folder.resolve(), folder.resolve() / "LibriSpeech"):
        if all((root / part).is_dir() for part in wanted):
            return root
    raise InputError(f"{folder}: lacks {' or '.join(wanted)}; name a folder where LibriSpeech's archives are unpacked")


def _heard_files(folder: Path, listed: set[Path]) -> list[Path]:
    """Return the FLAC files of a part of LibriSpeech whose speakers are in neither dev nor test, not listed before."""
    names = {path.stem for path in listed}
    files = [path for path in sorted(folder.rglob("*.flac")) if path.stem not in names]
    kept = [path for path in files if speaker_of(path.name) not in DEV_SPEAKERS + TEST_SPEAKERS]
    if not files:
        raise InputError(f"{folder}: holds no *.flac beside what is transcribed; unpack the archive again")
    if len(kept) < len(files):
        print(f"{folder}: {len(files) - len(kept)} utterances of the speakers of dev and test left out")
    if not kept:
        raise InputError(f"{folder}: has no speaker but those of dev and test; name another part as --unlabelled")
    return kept


def _transcripts(files: dict[Recording, Path]) -> dict[Path, str]:
    """Return the words of each file from the .trans.txt beside it; raises InputError where they are missing."""
    words = {folder: transcripts_of(str(folder)) for folder in dict.fromkeys(path.parent for path in files.values())}
    silent = [path for path in files.values() if not words[path.parent].get(path.stem)]
    if silent:
        raise InputError(f"{silent[0]}: no transcript in the .trans.txt beside it; unpack the archive again")
    return {path: words[path.parent][path.stem] for path in files.values()}


def _usable(audio: Path, files: dict[Recording, Path]) -> dict[Recording, Path]:
    """Return each file, or its copy below ``audio`` where it is not mono at 16 kHz."""
    usable = {}
    for recording, path in tqdm(files.items(), desc=f"reading {audio.name}", unit="file", leave=False):
        with open_sound(path, str(path)) as header:
            as_it_is = header.samplerate == SAMPLE_RATE and header.channels == 1
        usable[recording] = path if as_it_is else _converted(path, audio / f"{recording.name}.flac")
    return usable


def _converted(path: Path, target: Path) -> Path:
    if not target.is_file():
        wave, rate = read_sound(path)
        pcm = resampled_pcm(torch.from_numpy(wave.mean(axis=1)), rate, SAMPLE_RATE)
        with appearing(target, durable=False) as partial:
            soundfile.write(partial, pcm, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
    return target


def _write_list(out: Path, name: str, files: Sequence[Path], labels: dict[Path, str]) -> dict[str, float]:
    """Write a list's manifest, and its labels where it is transcribed; returns its size."""
    out.mkdir(parents=True, exist_ok=True)
    root = Path(os.path.commonpath([path.parent for path in files]))
    bar = tqdm(files, desc=f"headers for {name}", unit="file", leave=False)
    entries = [(str(path.relative_to(root)), audio_samples(path, SAMPLE_RATE)) for path in bar]
    if name in LABELLED:
        write_labels(out / f"{name}.tsv", [labels[path] for path in files])
    write_manifest(out / f"{name}.tsv", root, entries)
    speakers = {speaker_of(path) for path, _ in entries} - {""}
    hours = sum(samples for _, samples in entries) / SAMPLE_RATE / 3600
    return {"recordings": len(entries), "hours": round(hours, 4), "known_speakers": len(speakers)}


def _finished(out: Path, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return small.json if it tells of these options and every file behind it is still there."""
    try:
        done = json.loads((out / "small.json").read_text(encoding="utf-8"))
        manifests = [read_manifest(out / f"{name}.tsv") for name in LISTS]
    except (FileNotFoundError, json.JSONDecodeError, InputError):
        return None
    labels = [out / f"{name}.{kind}" for name in LABELLED for kind in ("wrd", "ltr")] + [out / "dict.ltr.txt"]
    there = all(path.is_file() for path in labels) and all(map(_all_there, manifests))
    return done if done.get("options") == options and there else None


def _all_there(manifest: Manifest) -> bool:
    return all(os.path.isfile(manifest.audio_path(entry)) for entry in manifest.entries)
