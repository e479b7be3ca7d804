"""Where a long recording has speech: by Silero's voice activity detector, or by energy alone.

Either is one pass over the recording in blocks of a minute: ten hours take no more memory than one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ccc_w2v.corpora.own.pauses import BLOCK_SECONDS, FRAME_SECONDS, levels_of
from ccc_w2v.data.resample import check_resampling, resample
from ccc_w2v.data.sound_file import blocks, open_sound
from ccc_w2v.errors import InputError

DETECTORS = ("silero", "energy")
# Silero's network takes 32 ms at 16 kHz and the 4 ms before, and has a memory.
SILERO_RATE, SILERO_FRAME, SILERO_CONTEXT = 16_000, 512, 64
AT_ONCE = 512  # frames in one call
# Energy: what is this far below the loud frames (the 95th percentile, which clicks do not move) is a pause.
RANGE_DB = 35.0
SHORTEST_SPEECH = 0.25  # seconds; Silero's own default

Region = tuple[float, float]
Time = TypeVar("Time", int, float)  # frames, or seconds


@dataclass(frozen=True)
class Heard:
    """What one pass over a recording tells: its format, levels (T,) of FRAME_SECONDS, speech as (start, end) [s]."""

    samples: int
    rate: int
    channels: int
    format: str
    level_T: np.ndarray
    speech: list[Region]


def listen(path: Path, detector: str, pause_seconds: float) -> Heard:
    """Decode a recording once, and find its speech: regions between pauses of ``pause_seconds`` or more.

    Raises InputError for a recording that cannot be read, and for one that silence or no sample is all there is of.
    """
    with open_sound(path, str(path), one_way=True) as recording:
        rate = recording.samplerate
        check_resampling(rate, SILERO_RATE, str(path))
        probabilities = _Silero() if detector == "silero" else None
        levels, samples = [], 0
        for block_SC in blocks(recording, BLOCK_SECONDS * rate, str(path)):
            samples += len(block_SC)
            levels.append(levels_of(block_SC, rate))
            if probabilities is not None:
                probabilities.hear(block_SC.mean(axis=1), rate)
        level_T = np.concatenate(levels) if levels else np.zeros(0)
        if not np.isfinite(level_T.sum()):
            raise InputError(f"{path}: holds samples that are NaN or infinite; replace the file")
        if probabilities is not None:
            speech = probabilities.regions(samples / rate, pause_seconds)
        else:
            speech = loud_regions(level_T, pause_seconds)
        return Heard(samples, rate, recording.channels, recording.format, level_T, speech)


def detector_of(wish: str) -> str:
    """Return the detector for "auto", "silero" or "energy"; raises InputError where Silero's is not installed."""
    missing = [name for name in ("silero_vad", "onnxruntime") if importlib.util.find_spec(name) is None]
    if wish == "auto":
        return "energy" if missing else "silero"
    if wish == "silero" and missing:
        raise InputError(
            f"--detector silero: {missing[0]} is not installed; pip install 'ccc-w2v[segment]', or --detector energy"
        )
    return wish


class _Silero:
    """The probability of speech in each frame of a recording that is heard block by block.

    As silero_vad's SileroVADSequence.audio_forward computes it of a recording that is in memory as a whole.
    """

    def __init__(self) -> None:
        self._session: Any = _silero().session
        self._memory = {name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}
        self._context_S = np.zeros(SILERO_CONTEXT, np.float32)
        self.probabilities: list[np.ndarray] = []

    def hear(self, wave_S: np.ndarray, rate: int) -> None:
        """Take the next block: whole frames, but for the last one."""
        block_S = resample(torch.from_numpy(wave_S), rate, SILERO_RATE).numpy()
        for start in range(0, len(block_S), AT_ONCE * SILERO_FRAME):
            self._hear_frames(block_S[start : start + AT_ONCE * SILERO_FRAME])

    def _hear_frames(self, wave_S: np.ndarray) -> None:
        frames = -(-len(wave_S) // SILERO_FRAME)
        padded_S = np.zeros(SILERO_CONTEXT + frames * SILERO_FRAME, np.float32)
        padded_S[:SILERO_CONTEXT] = self._context_S
        padded_S[SILERO_CONTEXT : SILERO_CONTEXT + len(wave_S)] = wave_S
        self._context_S = padded_S[-SILERO_CONTEXT:].copy()
        width = SILERO_CONTEXT + SILERO_FRAME
        frames_TS = np.lib.stride_tricks.sliding_window_view(padded_S, width)[::SILERO_FRAME]
        heard, self._memory["h"], self._memory["c"] = self._session.run(
            ["speech_probs", "hn", "cn"], {"input": np.ascontiguousarray(frames_TS), **self._memory}
        )
        self.probabilities.append(heard.reshape(-1))

    def regions(self, seconds: float, pause_seconds: float) -> list[Region]:
        """Return where speech is, by Silero's own rule: it begins at a probability of 0.5 and ends at 0.35."""
        from silero_vad import get_speech_timestamps_from_probs

        stamps = get_speech_timestamps_from_probs(
            np.concatenate(self.probabilities).tolist() if self.probabilities else [],
            sampling_rate=SILERO_RATE,
            min_speech_duration_ms=round(1000 * SHORTEST_SPEECH),
            min_silence_duration_ms=round(1000 * pause_seconds),
            speech_pad_ms=0,
            audio_length_samples=round(seconds * SILERO_RATE),
        )
        return [(stamp["start"] / SILERO_RATE, stamp["end"] / SILERO_RATE) for stamp in stamps]


_SILERO: list[Any] = []


def _silero() -> Any:
    """Return the network, loaded once: it keeps nothing between two calls, and threads may share it."""
    if not _SILERO:
        threads = torch.get_num_threads()
        # The whole sequence in one call of onnxruntime: eight times as fast as frame by frame in torch.
        from silero_vad import load_silero_vad

        torch.set_num_threads(threads)  # importing it sets 1
        _SILERO.append(load_silero_vad(sequence=True))
    return _SILERO[0]


def loud_regions(level_T: np.ndarray, pause_seconds: float) -> list[Region]:
    """Return regions (seconds) of frames not more than RANGE_DB below the loud ones, pauses shorter than that within.

    ``level_T`` are mean squares of FRAME_SECONDS.
    """
    if not level_T.any():
        return []
    loud_T = level_T > np.percentile(level_T, 95) * 10 ** (-RANGE_DB / 10)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud_T, [False]])))
    loud = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    pause, frames = pause_seconds / FRAME_SECONDS, SHORTEST_SPEECH / FRAME_SECONDS
    regions = joined(loud, lambda current, region: region[0] - current[1] < pause)
    return [(start * FRAME_SECONDS, end * FRAME_SECONDS) for start, end in regions if end - start >= frames]


def joined(
    regions: Iterable[tuple[Time, Time]], together: Callable[[tuple[Time, Time], tuple[Time, Time]], bool]
) -> Iterator[tuple[Time, Time]]:
    """Join neighbours for as long as ``together`` says so of what is joined so far and the next."""
    current: tuple[Time, Time] | None = None
    for region in regions:
        if current is not None and together(current, region):
            current = (current[0], region[1])
            continue
        if current is not None:
            yield current
        current = region
    if current is not None:
        yield current
