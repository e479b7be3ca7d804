"""Long recordings: log-probabilities from overlapping windows, stitched, in memory that does not grow with the length.

A window's outer frames lack context on one side, so that only its middle is kept: neighbours overlap, and each gives up
half of the overlap. Windows lie on the network's frames, so that a frame is made of the same samples as without
windows. What the network computes over all of an utterance is computed over all of the recording first: the mean and
variance of its samples (``normalize: true``), and those of each channel after the first convolution (group norm, the
base models). What is left is the Transformer's context: it ends at the window's ends.

Letters in shapes: S samples, T frames, C channels of the first convolution, V symbols of the dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ccc_w2v.decode.ctc_model import CtcModel
from ccc_w2v.decode.network import emit_batch, frame_count
from ccc_w2v.errors import InputError

# Reads so many samples (second number) from a start (first number).
ReadPart = Callable[[int, int], np.ndarray]

# Ten seconds: the first convolution makes 512 channels of every fifth sample.
STATISTICS_SAMPLES = 160_000
LAYER_NORM_EPS = 1e-5  # torch's default, which fairseq normalises waves with


@dataclass(frozen=True)
class Windows:
    """How many frames a window has, and how many of them it shares with the next."""

    frames: int
    overlap: int


def windows_of(model: CtcModel, seconds: float, overlap_seconds: float) -> Windows | None:
    """Return windows of a length in seconds on the model's frames; None for 0 seconds, which is no windows.

    Raises InputError for windows that do not overlap forwards.
    """
    if seconds == 0:
        return None
    second = model.sample_rate / model.frame_samples
    windows = Windows(round(seconds * second), round(overlap_seconds * second))
    if not 0 <= windows.overlap < windows.frames:
        raise InputError(
            f"windows of {seconds} s that overlap by {overlap_seconds} s; expected 0 <= overlap < window, 60 and 8 for "
            "instance, or a window of 0 to decode every recording whole"
        )
    return windows


@dataclass(frozen=True)
class PlacedWindow:
    """A window's first frame and the one after its last, and of those that are kept."""

    first: int
    end: int
    kept_first: int
    kept_end: int


def placed_windows(frames: int, windows: Windows) -> list[PlacedWindow]:
    """Cover so many frames with windows, each frame being kept once."""
    hop, margin = windows.frames - windows.overlap, windows.overlap // 2
    placed: list[PlacedWindow] = []
    for first in range(0, max(1, frames - windows.overlap), hop):
        end = min(first + windows.frames, frames)
        kept_end = frames if end == frames else first + hop + margin
        placed.append(PlacedWindow(first, end, placed[-1].kept_end if placed else 0, kept_end))
    return placed


def emit_long(
    model: CtcModel, read: ReadPart, samples: int, windows: Windows, max_samples: int, name: str
) -> Iterator[torch.Tensor]:
    """Give the log-probabilities (T, V) of a recording part by part, float32 on the CPU.

    At most ``max_samples`` samples are in memory at once, but always a window. Raises InputError as emit does, and for
    a recording of nothing but silence.
    """
    mean, variance = _wave_statistics(read, samples, name)
    scale = (variance + LAYER_NORM_EPS) ** -0.5

    def prepared(start: int, length: int) -> torch.Tensor:
        wave_S = torch.from_numpy(read(start, length))
        return (wave_S - mean) * scale if model.normalize else wave_S

    def wave_of(window: PlacedWindow) -> torch.Tensor:
        length = (window.end - window.first - 1) * model.frame_samples + model.min_samples
        return prepared(window.first * model.frame_samples, length)

    with nullcontext() if not model.whole_norm else _whole_group_norm(model, prepared, samples):
        for batch in _batches(placed_windows(frame_count(model, samples), windows), max_samples // model.frame_samples):
            emissions = emit_batch(model, [wave_of(window) for window in batch], [name] * len(batch))
            for window, log_probs_TV in zip(batch, emissions, strict=True):
                yield log_probs_TV[window.kept_first - window.first : window.kept_end - window.first]


def _batches(placed: list[PlacedWindow], frames: int) -> Iterator[list[PlacedWindow]]:
    """Group neighbours of one length, of at most so many frames together."""
    batch: list[PlacedWindow] = []
    for window in placed:
        length = window.end - window.first
        if batch and (length != batch[0].end - batch[0].first or (len(batch) + 1) * length > frames):
            yield batch
            batch = []
        batch.append(window)
    yield batch


def _blocks(total: int, step: int) -> Iterator[tuple[int, int]]:
    """Give starts and lengths of blocks from 0 to ``total``."""
    for start in range(0, total, step):
        yield start, min(step, total - start)


def _wave_statistics(read: ReadPart, samples: int, name: str) -> tuple[float, float]:
    """Return the mean and the variance of a recording's samples; raises InputError where all are zero."""
    total = squares = 0.0
    for start, length in _blocks(samples, STATISTICS_SAMPLES):
        wave = read(start, length).astype(np.float64)
        total += float(wave.sum())
        squares += float(np.dot(wave, wave))
    if squares == 0.0:
        raise InputError(f"{name}: digital silence, every sample is zero; remove the line from the manifest")
    mean = total / samples
    return mean, max(squares / samples - mean**2, 0.0)


@contextmanager
def _whole_group_norm(model: CtcModel, prepared: Callable[[int, int], torch.Tensor], samples: int) -> Iterator[None]:
    """Normalise the first convolution's channels by their mean and variance over the whole recording."""
    layers: Any = model.network.w2v_encoder.w2v_model.feature_extractor.conv_layers
    convolution, norm = layers[0][0], layers[0][2]
    (kernel,), (stride,) = convolution.kernel_size, convolution.stride
    frames = (samples - kernel) // stride + 1
    sum_C = squares_C = torch.zeros(convolution.out_channels, dtype=torch.float64)
    with torch.inference_mode():
        for first, length in _blocks(frames, STATISTICS_SAMPLES // stride):
            wave_S = prepared(first * stride, (length - 1) * stride + kernel)
            # Summed in double precision: over an hour, single precision would lose what it adds.
            output_CT = convolution(wave_S.to(convolution.weight)[None]).double()
            sum_C = sum_C + output_CT.sum(dim=1).cpu()
            squares_C = squares_C + output_CT.square().sum(dim=1).cpu()
        mean_C = sum_C / frames
        variance_C = (squares_C / frames - mean_C**2).clamp(min=0)
    layers[0][2] = FixedNorm(norm, mean_C, variance_C)
    try:
        yield
    finally:
        layers[0][2] = norm


class FixedNorm(torch.nn.Module):
    """A group norm of one channel a group, with statistics given instead of computed."""

    def __init__(self, norm: Any, mean_C: torch.Tensor, variance_C: torch.Tensor) -> None:
        super().__init__()
        self.norm = norm
        device = norm.weight.device
        self.mean_C, self.variance_C = mean_C.float().to(device), variance_C.float().to(device)

    def forward(self, features_BCT: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, T) by the stored mean and variance of each channel."""
        weight, bias = self.norm.weight.float(), self.norm.bias.float()
        return F.batch_norm(
            features_BCT.float(), self.mean_C, self.variance_C, weight, bias, eps=self.norm.eps
        ).type_as(features_BCT)
