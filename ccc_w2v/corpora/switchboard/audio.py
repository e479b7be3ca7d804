"""Segments of telephone calls as 16 kHz FLAC: one uncompressed zip, or one folder, for each call."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from tqdm import tqdm

from ccc_w2v.corpora.switchboard.sphere import SAMPLE_RATE as CALL_RATE
from ccc_w2v.corpora.switchboard.sphere import SIDES, Call, open_call, read_sides
from ccc_w2v.data.packing import write_zip, zip_slices
from ccc_w2v.data.resample import resampled_pcm
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing

SAMPLE_RATE = 16_000
# What a transcript may run past the end of its audio: times were set by hand. The segment then ends with the audio.
MAX_OVERSHOOT_SECONDS = 0.5


@dataclass(frozen=True)
class Excerpt:
    """What is cut from one side of a call: its name in the call, its times in seconds, and where they are written."""

    name: str
    side: str
    start: float
    end: float
    where: str


def excerpt_name(side: str, start: float, end: float) -> str:
    """Return what Kaldi's recipe calls a segment within its call, times in hundredths of a second: A_000098-001156."""
    return f"{side}_{math.floor(100 * start + 0.5):06}-{math.floor(100 * end + 0.5):06}"


def look_at_calls(paths: Mapping[str, Path], excerpts: Mapping[str, Sequence[Excerpt]]) -> dict[str, Call]:
    """Read the headers of all calls that something is cut from, and compare their lengths with the times.

    Raises InputError as open_call does, and for a segment that runs past the audio, before anything is written.
    """
    calls = {}
    for name in tqdm(excerpts, desc="headers of the calls", unit="call", leave=False):
        calls[name] = open_call(paths[name])
        for excerpt in excerpts[name]:
            if excerpt.start >= calls[name].seconds or excerpt.end > calls[name].seconds + MAX_OVERSHOOT_SECONDS:
                raise InputError(
                    f"{excerpt.where}: the segment ends at {excerpt.end:.2f} s, and {paths[name]} at "
                    f"{calls[name].seconds:.2f} s; the audio is cut off, or the transcript is another call's"
                )
    return calls


def samples_of(excerpt: Excerpt, call: Call) -> tuple[int, int]:
    """Return where a segment begins and ends, in samples at 16 kHz."""
    length = call.samples * SAMPLE_RATE // CALL_RATE
    return round(excerpt.start * SAMPLE_RATE), min(round(excerpt.end * SAMPLE_RATE), length)


def write_calls(
    audio: Path,
    calls: Mapping[str, Call],
    excerpts: Mapping[str, Sequence[Excerpt]],
    *,
    zipped: bool,
    workers: int | None = None,
) -> dict[str, str]:
    """Write every call's segments below ``audio``, a call at a time and whole; those that are there stay.

    Returns the path of each segment by its id, sw02001-A_000098-001156, as a manifest below ``audio`` says it:
    sw02001.zip:66:8000 or sw02001/A_000098-001156.flac.
    """
    audio.mkdir(parents=True, exist_ok=True)

    def write(name: str) -> dict[str, str]:
        there = _slices(audio, name, zipped)
        if there.keys() == {f"{name}-{excerpt.name}" for excerpt in excerpts[name]}:
            return there
        (_write_zip if zipped else _write_folder)(audio, name, _flacs(calls[name], excerpts[name]))
        return _slices(audio, name, zipped)

    paths: dict[str, str] = {}
    # Decoding, resampling and FLAC leave Python's lock alone.
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        try:
            for slices in tqdm(
                pool.map(write, excerpts), total=len(excerpts), desc="cutting calls at 16 kHz", unit="call"
            ):
                paths |= slices
        except BaseException:
            # Else a damaged call, or an interruption, would be told of when thousands of others are done.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def _flacs(call: Call, excerpts: Sequence[Excerpt]) -> Iterable[tuple[str, bytes]]:
    """Yield name and FLAC of each segment; each side of the call is resampled once, whole."""
    sides = dict(zip(SIDES, torch.from_numpy(read_sides(call)), strict=True))
    for side, wave_S in sides.items():
        if not any(excerpt.side == side for excerpt in excerpts):
            continue
        pcm = resampled_pcm(wave_S, CALL_RATE, SAMPLE_RATE)
        for excerpt in excerpts:
            if excerpt.side == side:
                start, end = samples_of(excerpt, call)
                flac = io.BytesIO()
                soundfile.write(flac, pcm[start:end], SAMPLE_RATE, subtype="PCM_16", format="FLAC")
                yield f"{excerpt.name}.flac", flac.getvalue()


def _write_zip(audio: Path, name: str, files: Iterable[tuple[str, bytes]]) -> None:
    write_zip(audio / f"{name}.zip", files)


def _write_folder(audio: Path, name: str, files: Iterable[tuple[str, bytes]]) -> None:
    with appearing(audio / name, durable=False) as partial:
        partial.mkdir()
        for file, content in files:
            (partial / file).write_bytes(content)


def _slices(audio: Path, name: str, zipped: bool) -> dict[str, str]:
    """Return the segments of a call that are written, by id; none where the call is not there or is damaged."""
    if not zipped:
        return {f"{name}-{path.stem}": f"{name}/{path.name}" for path in sorted((audio / name).glob("*.flac"))}
    try:
        return {f"{name}-{Path(file).stem}": where for file, where in zip_slices(audio / f"{name}.zip").items()}
    except (InputError, FileNotFoundError):
        return {}
