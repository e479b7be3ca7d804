"""Opening and reading of audio files whose headers may lie: a length is held against the file before it is allocated.

libsndfile believes what many headers say, and fills what is not there with zeros: a file of a hundred bytes could ask
for gigabytes.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from ccc_w2v.data.remote import PATIENCE, Patience
from ccc_w2v.data.stored_audio import as_source, stored_audio
from ccc_w2v.errors import InputError

# Bytes of a sample; of other codings the most samples that a byte can hold.
_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}
# MP3's lowest rate is 8 kbit/s; silence in FLAC takes 13 bytes for 65,535 samples, the most of any coding.
_SAMPLES_A_BYTE = {"MP3": 128}
_MOST_SAMPLES_A_BYTE = 8192
_BLOCK = 1 << 20  # samples read at once: a file that ends early has cost no more

MIN_RATE, MAX_RATE = 1000, 768_000  # Hz

# What soundfile raises for one damaged file or another: it computes with a header's numbers before it checks them.
DAMAGED = (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError, OSError)


def _realize_types() -> None:
    """Use all of soundfile that reads, once, in the one thread that imports this module.

    cffi makes a C function's or type's Python object when it is first used, and two threads that do so at the same time
    abort the process (cffi 2.1.1: "realize_c_type_or_func_lock_held: Assertion failed").
    """
    for name in dir(soundfile._snd):
        getattr(soundfile._snd, name)
    content = io.BytesIO()
    soundfile.write(content, np.zeros(8, np.float32), 16_000, format="WAV")
    for dtype in ("int16", "int32", "float32", "float64"):
        content.seek(0)
        with soundfile.SoundFile(content) as recording:
            recording.seek(0)
            recording.read(dtype=dtype)
    # A path, and the message of an error.
    with contextlib.suppress(soundfile.LibsndfileError):
        soundfile.SoundFile(os.devnull)


_realize_types()


class _OneWay(soundfile.SoundFile):
    """A recording that soundfile takes for a pipe: else it jumps after every read, which damages MP3 at each seam."""

    def seekable(self) -> bool:
        return False


def open_sound(
    path: str | Path, name: str, *, one_way: bool = False, patience: Patience = PATIENCE
) -> soundfile.SoundFile:
    """Open a recording, wherever it is stored (data/stored_audio.py); ``name`` heads every message.

    ``one_way``: for ``blocks`` alone. Raises InputError for one that is missing or unreachable, that libsndfile does
    not read, or too small for what its header says.
    """
    try:
        stored = stored_audio(str(path), patience)
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the manifest's root line or prepare the corpus again") from error
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error}); replace the file") from error
    return open_stored(stored, name, one_way=one_way)


def open_stored(stored: str | bytes, name: str, *, one_way: bool = False) -> soundfile.SoundFile:
    """Open a file, or the bytes of one; raises InputError as open_sound does."""
    try:
        source, size = as_source(stored)
        recording = (_OneWay if one_way else soundfile.SoundFile)(source)
    except DAMAGED as error:
        raise InputError(f"{name}: not audio that libsndfile reads ({error}); replace or convert the file") from error
    try:
        _check_size(recording, size, name)
    except InputError:
        recording.close()
        raise
    return recording


def _check_size(recording: soundfile.SoundFile, size: int, name: str) -> None:
    frames, channels = recording.frames, recording.channels
    width = _BYTES.get(recording.subtype)
    if width is None or recording.format == "FLAC":
        most = size * _SAMPLES_A_BYTE.get(recording.format, _MOST_SAMPLES_A_BYTE)
    else:
        most = size // (width * channels)
    if not MIN_RATE <= recording.samplerate <= MAX_RATE:
        raise InputError(
            f"{name}: its header says {recording.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz; replace the file"
        )
    if frames < 0 or frames > most:
        raise InputError(
            f"{name}: its header says {frames} samples at {recording.samplerate} Hz, and it has {size} bytes; "
            "the file is truncated or damaged, replace it"
        )


def read_frames(recording: soundfile.SoundFile, frames: int = -1, *, dtype: str = "float32") -> np.ndarray:
    """Read so many frames from where the recording stands, or all (-1): (S,) where it is mono, else (S, C).

    Fewer come back where the file ends early. Raises what soundfile raises: DAMAGED.
    """
    left = recording.frames - recording.tell() if frames < 0 else frames
    block = max(_BLOCK // recording.channels, 1)
    # A jump, which soundfile makes after every read, would disturb MP3; its length is bounded closely enough.
    if left <= block or recording.format == "MP3":
        return recording.read(left, dtype=dtype)
    parts = []
    while left > 0:
        parts.append(recording.read(min(left, block), dtype=dtype))
        left -= len(parts[-1])
        if len(parts[-1]) < block:
            break
    return np.concatenate(parts)


def blocks(recording: soundfile.SoundFile, frames: int, name: str) -> Iterator[np.ndarray]:
    """Yield all samples of a recording that was opened ``one_way``, (up to ``frames``, C) float32 at a time.

    Raises InputError, headed by ``name``, for what cannot be decoded.
    """
    try:
        while len(block := recording.read(frames, dtype="float32", always_2d=True)):
            yield block
    except DAMAGED as error:
        raise InputError(f"{name}: cannot be decoded ({error}); the file is damaged, replace it") from error


def read_sound(path: str | Path, *, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """Return all samples of a recording (S, C) and its rate in Hz; raises InputError as open_sound does, or damaged."""
    with open_sound(path, str(path)) as recording:
        try:
            wave = read_frames(recording, dtype=dtype)
        except DAMAGED as error:
            raise InputError(f"{path}: cannot be decoded ({error}); the file is damaged, replace it") from error
        if len(wave) != recording.frames:
            raise InputError(f"{path}: truncated, {len(wave)} of {recording.frames} samples could be read; replace it")
        return wave.reshape(len(wave), recording.channels), recording.samplerate
