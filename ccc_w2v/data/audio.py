"""From a file, a zip slice or a segment to a mono float32 wave; every error names file and manifest line."""

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
from ccc_w2v.data.slices import segment_of
from ccc_w2v.data.sound_file import DAMAGED, open_sound, open_stored, read_frames
from ccc_w2v.errors import InputError

Samples = TypeVar("Samples", int, np.ndarray)
NOT_FINITE = "holds samples that are NaN or infinite; replace the file"
# A frame of MP3 needs bits of those before it, and its filters their output: 5 frames of 1152 samples were too few for
# some jumps, 10 gave the same samples as decoding from the beginning.
MP3_RUN_UP = 20 * 1152
# MP3 of lower rates has frames of 576 samples and, after a jump, a decoder that complains on stderr.
MP3_JUMPS_FROM = 32_000  # Hz


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
    """Read one recording or segment, or ``frames`` samples of it from ``start``, as a float32 wave (S,).

    Of a long recording only what is asked for is decoded, where its format allows. ``where`` ("manifest:line") heads
    every message. With ``declared_samples`` the length must be exactly that. With ``resample`` a recording of another
    rate is resampled and channels are averaged, all other numbers being in the file's own samples. ``patience`` is for
    one on a network.

    Raises InputError for a file that is missing, unreachable, unreadable, of another rate or not mono (without
    ``resample``), shorter or longer than declared, shorter than ``min_samples``, silent, or holding a sample that is
    not finite.
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
    with _opened(path, name, sample_rate, declared_samples, min_samples, patience) as (recording, first, samples):
        wanted = samples - start if frames < 0 else frames
        return read_part(recording, name, first + start, wanted), recording.samplerate


@contextmanager
def _opened(
    path: str,
    name: str,
    sample_rate: int | None,
    declared: int | None,
    min_samples: int,
    patience: Patience = PATIENCE,
) -> Iterator[tuple[soundfile.SoundFile, int, int]]:
    """Open a recording, or that of a segment: gives it, where the utterance begins in it, and its number of samples.

    A ``sample_rate`` of None is any, with any number of channels.
    """
    segment = segment_of(path)
    with open_sound(segment.file if segment else path, name, patience=patience) as recording:
        first, samples = (segment.start, segment.length) if segment else (0, recording.frames)
        _check_header(recording, samples, name, sample_rate, declared, min_samples)
        if first + samples > recording.frames:
            raise InputError(
                f"{name}: the segment ends after the recording's {recording.frames} samples; the file is truncated or "
                "was replaced, run ccc-w2v segment again"
            )
        yield recording, first, samples


def read_part(recording: soundfile.SoundFile, name: str, start: int, frames: int) -> np.ndarray:
    """Return samples of an open recording as a wave (S,), the mean of its channels; InputError for a damaged one."""
    jump = _decoded_from(recording, start)
    try:
        if recording.tell() != jump:
            recording.seek(jump)
        wave = read_frames(recording, start - jump + frames)[start - jump :]
    except DAMAGED as error:
        raise InputError(f"{name}: cannot be decoded ({error}); the file is damaged, replace it") from error
    if len(wave) < frames:
        raise InputError(f"{name}: truncated, {len(wave)} of {frames} samples could be read; replace the file")
    return wave if wave.ndim == 1 else wave.mean(axis=1)


def _decoded_from(recording: soundfile.SoundFile, start: int) -> int:
    """Return where decoding must begin for the samples from ``start`` on to be right."""
    if recording.format != "MP3":
        return start
    # From the beginning MP3 is decoded 2,000 times faster than real time.
    return max(0, start - MP3_RUN_UP) if recording.samplerate >= MP3_JUMPS_FROM else 0


@contextmanager
def open_parts(
    path: str | Path, sample_rate: int, *, where: str, declared_samples: int
) -> Iterator[Callable[[int, int], np.ndarray]]:
    """Open a long recording; gives a function from a start and a number of samples to these samples (S,) float32.

    Only what is asked for is decoded. Raises InputError as read_audio does, but does not look for silence: a part of
    a recording may be silent.
    """
    name = _name(path, where)
    with _opened(str(path), name, sample_rate, declared_samples, 1) as (recording, first, _):

        def read(start: int, frames: int) -> np.ndarray:
            wave = read_part(recording, name, first + start, frames)
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


def audio_samples(path: str | Path, sample_rate: int | None, *, where: str = "", patience: Patience = PATIENCE) -> int:
    """Return a recording's length in its own samples from its header alone; raises InputError as read_audio does.

    A ``sample_rate`` of None is any, with any number of channels.
    """
    with _opened(str(path), _name(path, where), sample_rate, None, 1, patience) as (_, _, samples):
        return samples


def stored_samples(stored: str | bytes, sample_rate: int | None, name: str) -> int:
    """Do as audio_samples does for a file, or the bytes of one, that was read already."""
    with open_stored(stored, name) as recording:
        _check_header(recording, recording.frames, name, sample_rate, None, 1)
        return recording.frames


def audio_rate(path: str | Path, *, where: str = "") -> int:
    """Return a recording's sample rate in Hz from its header alone; raises InputError as read_audio does."""
    segment = segment_of(str(path))
    with open_sound(segment.file if segment else path, _name(path, where)) as recording:
        return recording.samplerate


def _name(path: str | Path, where: str) -> str:
    return f"{where}: {path}" if where else str(path)


def _check_header(
    recording: soundfile.SoundFile,
    samples: int,
    name: str,
    sample_rate: int | None,
    declared: int | None,
    min_samples: int,
) -> None:
    if sample_rate is not None and recording.samplerate != sample_rate:
        raise InputError(
            f"{name}: sample rate {recording.samplerate} Hz, expected {sample_rate} Hz; resample it once "
            "(pre-training also resamples as it reads: task.resample=true)"
        )
    if sample_rate is not None and recording.channels != 1:
        raise InputError(
            f"{name}: {recording.channels} channels, expected 1; split or mix down the corpus once "
            "(pre-training also averages channels as it reads: task.resample=true)"
        )
    if declared is not None and samples != declared:
        raise InputError(
            f"{name}: {samples} samples, the manifest declares {declared}; "
            "the file is truncated or was replaced, write the manifest again"
        )
    if samples < min_samples:
        raise InputError(f"{name}: {samples} samples, the minimum is {min_samples}; remove the line from the manifest")
