"""Long recordings cut at their pauses: where they are quietest, found by energy alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soundfile

FRAME_SECONDS = 0.02
# A pause between words is about this long; shorter dips are the closures of stops.
PAUSE_SECONDS = 0.3
# A part is cut between this share of the longest length and all of it.
SHORTEST_SHARE = 0.4
_BLOCK_FRAMES = 3000


def frame_levels(recording: soundfile.SoundFile) -> np.ndarray:
    """Return the mean square of each frame of FRAME_SECONDS, (T,), all channels together, from the start.

    The recording is read in blocks: an hour takes no more memory than a minute.
    """
    size = round(FRAME_SECONDS * recording.samplerate)
    levels = []
    for block in recording.blocks(_BLOCK_FRAMES * size, dtype="float32", always_2d=True):
        frames = len(block) // size
        levels.append(np.square(block[: frames * size].reshape(frames, -1)).mean(axis=1))
    return np.concatenate(levels) if levels else np.zeros(0)


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
    """Yield start and end, in seconds, of the parts of a recording that was just opened."""
    end = recording.frames / recording.samplerate
    edges = [0.0, *(frame * FRAME_SECONDS for frame in cut_points(frame_levels(recording), longest_seconds)), end]
    yield from zip(edges[:-1], edges[1:], strict=True)
