"""Long recordings cut at their pauses: where they are quietest, found by energy alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soundfile

from ccc_w2v.data.sound_file import blocks

FRAME_SECONDS = 0.02
# A pause between words is about this long; shorter dips are the closures of stops.
PAUSE_SECONDS = 0.3
# A part is cut between this share of the longest length and all of it.
SHORTEST_SHARE = 0.4
BLOCK_SECONDS = 60


def frame_levels(recording: soundfile.SoundFile) -> np.ndarray:
    """Return the mean square of each frame of FRAME_SECONDS, (T,), all channels together; opened ``one_way``.

    The recording is read in blocks: an hour takes no more memory than a minute.
    """
    rate = recording.samplerate
    levels = [levels_of(block_SC, rate) for block_SC in blocks(recording, BLOCK_SECONDS * rate, recording.name)]
    return np.concatenate(levels) if levels else np.zeros(0)


def levels_of(block_SC: np.ndarray, rate: int) -> np.ndarray:
    """Return the mean square (T,) of each FRAME_SECONDS of a block, all channels together.

    Frames are where their times are, also at 11025 Hz, where one has 220.5 samples.
    """
    frames = int(len(block_SC) / rate / FRAME_SECONDS + 1e-6)
    if not frames:
        return np.zeros(0, np.float32)
    starts = np.floor(np.arange(frames + 1) * FRAME_SECONDS * rate + 1e-6).astype(np.int64)
    power_S = np.square(block_SC[: starts[-1]]).mean(axis=1)
    return np.add.reduceat(power_S, starts[:-1]) / np.diff(starts)


def cut_points(level_T: np.ndarray, longest_seconds: float) -> list[int]:
    """Return the frames at which to cut a recording so that no part is longer than ``longest_seconds``.

    Each cut is at the quietest PAUSE_SECONDS that its part may end with; of equally quiet ones the last.
    """
    longest = round(longest_seconds / FRAME_SECONDS)
    width = max(1, round(PAUSE_SECONDS / FRAME_SECONDS))
    smooth_T = np.convolve(level_T, np.full(width, 1 / width), mode="same")
    cuts, start = [], 0
    while len(level_T) - start > longest:
        earliest = start + max(1, round(SHORTEST_SHARE * longest))
        window = smooth_T[earliest : start + longest]
        start = earliest + len(window) - 1 - int(window[::-1].argmin())
        cuts.append(start)
    return cuts


def parts(recording: soundfile.SoundFile, longest_seconds: float) -> Iterator[tuple[float, float]]:
    """Yield start and end, in seconds, of the parts of a recording that was just opened, ``one_way``."""
    end = recording.frames / recording.samplerate
    edges = [0.0, *(frame * FRAME_SECONDS for frame in cut_points(frame_levels(recording), longest_seconds)), end]
    yield from zip(edges[:-1], edges[1:], strict=True)
