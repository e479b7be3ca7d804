"""A user's recordings: found in a folder, joined with their transcripts, converted to what training reads."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from ccc_w2v.corpora.own.pauses import parts
from ccc_w2v.corpora.own.transcripts import TranscribedSegment
from ccc_w2v.data.audio import read_part
from ccc_w2v.data.resample import resampled_pcm
from ccc_w2v.data.sound_file import open_sound
from ccc_w2v.errors import InputError
from ccc_w2v.files import whole

# Raw samples name neither their rate nor their format.
FORMATS = frozenset({*(name.lower() for name in soundfile.available_formats() if name != "RAW"), "opus", "aif", "oga"})


@dataclass(frozen=True)
class Clip:
    """A recording or a part of it (seconds), of which one line of a manifest is made; text None: not transcribed."""

    source: Path
    name: str
    speaker: str
    seconds: float
    text: str | None = None
    split: str = ""
    start: float | None = None
    end: float | None = None


def find_recordings(folder: str | Path) -> list[Path]:
    """Return all audio below a folder, by name; raises InputError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one that your recordings are in")
    names = (Path(root, name) for root, _, files in os.walk(folder, followlinks=True) for name in files)
    recordings = sorted(path for path in names if path.suffix[1:].lower() in FORMATS)
    if not recordings:
        raise InputError(f"{folder}: holds no audio; looked for {', '.join(sorted(FORMATS))}, in folders below it too")
    return recordings


def speaker_of(name: str, scheme: str) -> str:
    """Return the speaker of a recording (its path below the folder).

    ``scheme``: "folder", the first folder of the path; "recording", each its own; else a regular expression, whose
    first group is the speaker. Raises InputError where an expression does not match.
    """
    if scheme == "recording":
        return name
    if scheme == "folder":
        return name.split("/", 1)[0] if "/" in name else "."
    match = re.search(scheme, name)
    if match is None:
        raise InputError(f"{name}: --speakers {scheme!r} does not match it; correct the expression")
    return match[1] if match.re.groups else match[0]


def join(recordings: Sequence[Path], root: Path, segments: Sequence[TranscribedSegment], scheme: str) -> list[Clip]:
    """Return the clips of recordings and their transcripts; recordings without one have no text.

    A table may name a recording by its path below ``root`` or its file name, with or without its ending. Raises
    InputError for a line that names none or several, for audio that cannot be opened, and for a recording that is
    transcribed twice.
    """
    named = _by_name(recordings, root)
    said: dict[Path, list[TranscribedSegment]] = defaultdict(list)
    for segment in segments:
        candidates = named.get(segment.path.removeprefix("./"), [])
        if len(candidates) != 1:
            candidates_text = f"{len(candidates)} recordings" if candidates else "no recording"
            raise InputError(
                f"{segment.where}: {segment.path!r} names {candidates_text} below {root}; correct the path"
            )
        said[candidates[0]].append(segment)
    clips = []
    for recording in recordings:
        name, seconds = recording.relative_to(root).as_posix(), duration(recording)
        clip = Clip(recording, name, speaker_of(name, scheme), seconds)
        lines = said[recording]
        if len(lines) > 1 and any(line.start is None for line in lines):
            raise InputError(f"{lines[1].where}: {name} has a transcript already ({lines[0].where}); remove one")
        clips += [_transcribed(clip, line) for line in lines] or [clip]
    return clips


def _transcribed(clip: Clip, line: TranscribedSegment) -> Clip:
    if line.end is not None and line.end > clip.seconds + 0.1:
        raise InputError(
            f"{line.where}: ends at {line.end:g} s, {clip.name} has {clip.seconds:.1f} s; correct the times"
        )
    length = clip.seconds if line.start is None or line.end is None else min(line.end, clip.seconds) - line.start
    speaker = line.speaker or clip.speaker
    return replace(
        clip, text=line.text, speaker=speaker, split=line.split, start=line.start, end=line.end, seconds=length
    )


def _by_name(recordings: Sequence[Path], root: Path) -> dict[str, list[Path]]:
    """Return the recordings by every spelling that names them; whole paths win over file names."""
    named: dict[str, list[Path]] = {}
    spellings = [lambda path: path.relative_to(root).as_posix(), lambda path: str(path)]
    spellings += [lambda path: path.relative_to(root).with_suffix("").as_posix(), lambda path: path.name]
    spellings += [lambda path: path.stem]
    for spelling in spellings:
        level: dict[str, list[Path]] = defaultdict(list)
        for path in recordings:
            level[spelling(path)].append(path)
        named = {**level, **named}
    return named


def duration(recording: Path) -> float:
    """Return a recording's length in seconds; raises InputError for what libsndfile does not read, or is empty."""
    with _opened(recording) as audio:
        return audio.frames / audio.samplerate


def _opened(recording: Path, *, one_way: bool = False) -> soundfile.SoundFile:
    audio = open_sound(recording, str(recording), one_way=one_way)
    if not audio.frames:
        audio.close()
        raise InputError(f"{recording}: holds no audio; remove or replace it")
    return audio


def cut_long(
    clips: Sequence[Clip], longest_seconds: float, known: Mapping[str, Sequence[tuple[float, float]]] | None = None
) -> Iterator[Clip]:
    """Yield clips of at most ``longest_seconds``: a longer one is cut at its pauses, and loses its transcript by it.

    A transcript says nothing of when its words come; a part of known times stays as it is. ``known`` are the edges of
    recordings that were cut before.
    """
    for clip in clips:
        if clip.seconds <= longest_seconds or clip.start is not None:
            yield clip
            continue
        edges = list((known or {}).get(clip.name, ()))
        if not edges:
            with _opened(clip.source, one_way=True) as audio:
                edges = list(parts(audio, longest_seconds))
        for start, end in edges:
            yield replace(clip, text=None, start=start, end=end, seconds=end - start)


def target_names(clips: Sequence[Clip], among: Sequence[Clip] = ()) -> list[str]:
    """Return the path of each clip's FLAC file: the recording's, and its times where it is a part of it.

    ``among`` are all clips, where ``clips`` are a share of them.
    """
    stems = [clip.name.rsplit(".", 1)[0] for clip in clips]
    # Two recordings of one name but for the ending, as a.wav and a.mp3.
    endings_of: dict[str, set[str]] = defaultdict(set)
    for clip in (*clips, *among):
        endings_of[clip.name.rsplit(".", 1)[0]].add(clip.name)
    names = []
    for clip, stem in zip(clips, stems, strict=True):
        base = stem if len(endings_of[stem]) == 1 else clip.name.replace(".", "_")
        base = re.sub(r"[()\s]", "_", base)
        times = "" if clip.start is None else f"_{round(clip.start * 100):07d}_{round((clip.end or 0) * 100):07d}"
        names.append(f"{base}{times}.flac")
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise InputError(f"{doubled[0]}: two recordings or segments would be this file; rename one")
    return names


def convert(clip: Clip, target: Path, sample_rate: int) -> int:
    """Write a clip as mono FLAC of 16 bits at ``sample_rate`` Hz, the mean of its channels; returns its samples.

    One that is there is kept: a file appears whole or not at all. Raises InputError for audio that cannot be decoded,
    that is not finite, or silent throughout.
    """
    if target.is_file():
        return soundfile.info(target).frames
    with _opened(clip.source) as audio:
        first = 0 if clip.start is None else round(clip.start * audio.samplerate)
        last = audio.frames if clip.end is None else min(audio.frames, round(clip.end * audio.samplerate))
        wave_S = read_part(audio, clip.name, first, last - first)
        if not np.isfinite(np.dot(wave_S, wave_S)):
            raise InputError(f"{clip.name}: holds samples that are no finite numbers; replace the file")
        pcm = resampled_pcm(torch.from_numpy(wave_S), audio.samplerate, sample_rate)
    if not pcm.any():
        raise InputError(f"{clip.source}: silent from {first / audio.samplerate:.1f} s on; remove or repair it")
    with whole(target, overwrite=True) as partial:
        soundfile.write(partial, pcm, sample_rate, format="FLAC", subtype="PCM_16")
    return len(pcm)


def refuse_unreadable(bad: Sequence[str], leave_out_bad: bool) -> None:
    """Raise InputError, with the first of what is said of recordings that cannot be read, unless they are left out."""
    if bad and not leave_out_bad:
        more = f"; and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise InputError(f"{bad[0]}{more}; --leave-out-bad skips them")
