"""From a file or a zip slice to a mono float32 wave at the task's rate; every error names file and manifest line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import torch

from ccc_w2v.data.remote import PATIENCE, Patience
from ccc_w2v.data.resample import check_resampling
from ccc_w2v.data.resample import resample as resample_wave
from ccc_w2v.data.sound_file import DAMAGED, open_sound, open_stored, read_frames
from ccc_w2v.errors import InputError

Samples = TypeVar("Samples", int, np.ndarray)
NOT_FINITE = "holds samples that are NaN or infinite; replace the file"


def read_audio(
    path: str | Path,
    sample_rate: int,
    *,
    where: str = "",
    declared_samples: int | None = None,
    min_samples: int = 1,
    start: int = 0,
    frames: int = -1,
    resample: bool = False,
    patience: Patience = PATIENCE,
) -> torch.Tensor:
    """Read one recording, or ``frames`` samples of it from ``start``, as a float32 wave (S,).

    ``where`` ("manifest:line") heads every message. With ``declared_samples`` the file's length must be exactly that.
    With ``resample`` a recording of another rate is resampled, all other numbers being in the file's own samples.
    ``patience`` is for one on a network.

    Raises InputError for a file that is missing, unreachable, unreadable, of another rate (without ``resample``), not mono, shorter
    or longer than declared, shorter than ``min_samples``, silent, or holding a sample that is not finite.
    """
    name = _name(path, where)
    expected_rate = None if resample else sample_rate
    wave, rate = _read(str(path), name, expected_rate, declared_samples, min_samples, start, frames, patience)
    check_wave(wave, name)
    wave_S = torch.from_numpy(wave)
    if rate == sample_rate:
        return wave_S
    check_resampling(rate, sample_rate, name)
    return resample_wave(wave_S, rate, sample_rate)


def read_samples(
    path: str | Path, sample_rate: int, *, where: str, declared_samples: int, start: int = 0, frames: int = -1
) -> np.ndarray:
    """Do as read_audio does, but leave the samples (S,) float32 themselves unchecked."""
    return _read(str(path), _name(path, where), sample_rate, declared_samples, 1, start, frames)[0]


def resampled_length(samples: Samples, rate: Samples, sample_rate: int) -> Samples:
    """Return how many samples are left of a recording after resampling from ``rate`` to ``sample_rate`` Hz."""
    return -(-samples * sample_rate // rate)


def _read(
    path: str,
    name: str,
    sample_rate: int | None,
    declared_samples: int | None,
    min_samples: int,
    start: int,
    frames: int,
    patience: Patience = PATIENCE,
) -> tuple[np.ndarray, int]:
    with open_sound(path, name, patience) as recording:
        _check_header(recording, name, sample_rate, declared_samples, min_samples)
        return _read_part(recording, name, start, frames), recording.samplerate


def _read_part(recording: soundfile.SoundFile, name: str, start: int, frames: int) -> np.ndarray:
    # A frame of MP3 needs bits of those before it: after a jump libsndfile decodes the first ones wrongly, and its
    # decoder complains on stderr. From the beginning it is 2,000 times faster than real time.
    skipped = start if recording.format == "MP3" else 0
    try:
        if recording.tell() != start - skipped:
            recording.seek(start - skipped)
        wave = read_frames(recording, frames if frames < 0 else skipped + frames)[skipped:]
    except DAMAGED as error:
        raise InputError(f"{name}: cannot be decoded ({error}); the file is damaged, replace it") from error
    expected = recording.frames - start if frames < 0 else frames
    if len(wave) < expected:
        raise InputError(f"{name}: truncated, {len(wave)} of {expected} samples could be read; replace the file")
    return wave


@contextmanager
def open_parts(
    path: str | Path, sample_rate: int, *, where: str, declared_samples: int
) -> Iterator[Callable[[int, int], np.ndarray]]:
    """Open a long recording; gives a function from a start and a number of samples to these samples (S,) float32.

    Only what is asked for is decoded. Raises InputError as read_audio does, but does not look for silence: a part of
    a recording may be silent.
    """
    name = _name(path, where)
    with open_sound(path, name) as recording:
        _check_header(recording, name, sample_rate, declared_samples, 1)

        def read(start: int, frames: int) -> np.ndarray:
            wave = _read_part(recording, name, start, frames)
            if not np.isfinite(np.dot(wave, wave)):
                raise InputError(f"{name}: {NOT_FINITE}")
            return wave

        yield read


def check_wave(wave: np.ndarray, name: str) -> None:
    """Raise InputError when a wave (S,) holds a sample that is not finite, or nothing but silence."""
    # One pass decides: a NaN or infinity anywhere makes the sum of squares not finite.
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(np.dot(wave, wave))
    if not np.isfinite(energy):
        raise InputError(f"{name}: {NOT_FINITE}")
    if energy == 0.0:
        raise InputError(f"{name}: digital silence, every sample is zero; remove the line from the manifest")


def audio_samples(
    path: str | Path, sample_rate: int | None, *, where: str = "", patience: Patience = PATIENCE
) -> int:
    """Return a recording's length in its own samples from its header alone; raises InputError as read_audio does.

    A ``sample_rate`` of None is any.
    """
    name = _name(path, where)
    with open_sound(path, name, patience) as recording:
        _check_header(recording, name, sample_rate, None, 1)
        return recording.frames


def stored_samples(stored: str | bytes, sample_rate: int | None, name: str) -> int:
    """Do as audio_samples does for a file, or the bytes of one, that was read already."""
    with open_stored(stored, name) as recording:
        _check_header(recording, name, sample_rate, None, 1)
        return recording.frames


def audio_rate(path: str | Path, *, where: str = "") -> int:
    """Return a recording's sample rate in Hz from its header alone; raises InputError as read_audio does."""
    with open_sound(path, _name(path, where)) as recording:
        return recording.samplerate


def _name(path: str | Path, where: str) -> str:
    return f"{where}: {path}" if where else str(path)


def _check_header(
    recording: soundfile.SoundFile, name: str, sample_rate: int | None, declared: int | None, min_samples: int
) -> None:
    if sample_rate is not None and recording.samplerate != sample_rate:
        raise InputError(
            f"{name}: sample rate {recording.samplerate} Hz, expected {sample_rate} Hz; resample it once "
            "(pre-training also resamples as it reads: task.resample=true)"
        )
    if recording.channels != 1:
        raise InputError(f"{name}: {recording.channels} channels, expected 1; split or mix down the corpus once")
    if declared is not None and recording.frames != declared:
        raise InputError(
            f"{name}: {recording.frames} samples, the manifest declares {declared}; "
            "the file is truncated or was replaced, write the manifest again"
        )
    if recording.frames < min_samples:
        raise InputError(
            f"{name}: {recording.frames} samples, the minimum is {min_samples}; remove the line from the manifest"
        )
