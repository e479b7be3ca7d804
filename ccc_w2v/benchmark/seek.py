"""`seek`: what a segment of a long recording costs to read, by format and by where in the recording it is."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from ccc_w2v.benchmark import measure
from ccc_w2v.data.audio import read_audio

# Format of libsndfile, rate in Hz, channels, further settings.
FORMATS: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "WAV": ("wav", 16_000, 1, {}),
    "FLAC": ("flac", 16_000, 1, {}),
    "Vorbis": ("ogg", 16_000, 1, {"format": "OGG", "subtype": "VORBIS"}),
    "Opus": ("opus", 16_000, 1, {"format": "OGG", "subtype": "OPUS"}),
    "MP3 16 kHz": ("mp3", 16_000, 1, {}),
    "MP3 44.1 kHz": ("mp3", 44_100, 1, {"bitrate_mode": "VARIABLE"}),
}
COLUMNS = {"decode": 11, "start": 10, "middle": 11, "end": 8}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ccc-w2v benchmark seek`."""
    parser.add_argument("--hours", type=float, default=1.0, help="length of the recordings that are made (default: 1)")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a segment (default: 15)")
    parser.add_argument("--reads", type=int, default=20, help="segments read at each place (default: 20)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Make a recording of each format; return the median CPU milliseconds of a segment near its start, middle, end.

    CPU time, since other work on the machine lengthens the rest; without resampling. In "decode" is the cost of the
    same seconds where they are read from the recording's start, without a jump.
    """
    results: dict[str, Any] = {}
    print(f"{args.hours:g} h, segments of {args.seconds:g} s, CPU time, {measure.machine(torch.device('cpu'))}")
    print(f"{'format':<14}{'MB':>6}{'decode ms':>11}{'start ms':>10}{'middle ms':>11}{'end ms':>8}{'apart':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, rate, channels, settings) in FORMATS.items():
            path = Path(folder) / f"{rate}.{suffix}"
            samples = _write(path, rate, channels, args.hours, settings)
            length = round(args.seconds * rate)
            draw = np.random.default_rng(0)
            places = {
                place: [round(share * (samples - length)) + int(draw.integers(rate)) for _ in range(args.reads)]
                for place, share in (("start", 0.01), ("middle", 0.5), ("end", 0.98))
            }
            row = {"mb": path.stat().st_size >> 20, "decode": _cpu_ms(path, rate, [0] * args.reads, length)}
            row |= {place: _cpu_ms(path, rate, starts, length) for place, starts in places.items()}
            row["apart"] = _apart(path, rate, places["middle"][0], length)
            results[name] = row
            numbers = [f"{row[key]:>{width}.1f}" for key, width in COLUMNS.items()]
            print(f"{name:<14}{row['mb']:>6}{''.join(numbers)}{row['apart']:>10.0e}", flush=True)
            path.unlink()
    return results


def _write(path: Path, rate: int, channels: int, hours: float, settings: dict[str, Any]) -> int:
    """Write noise in syllables, a minute at a time; returns its samples."""
    draw = np.random.default_rng(0)
    envelope = 0.1 * np.clip(np.sin(2 * np.pi * 2.5 * np.arange(60 * rate) / rate), 0.02, None)
    with soundfile.SoundFile(path, "w", rate, channels, **settings) as file:
        for _ in range(round(hours * 60)):
            file.write((envelope * draw.standard_normal(60 * rate)).astype(np.float32))
    return soundfile.info(path).frames


def _cpu_ms(path: Path, rate: int, starts: list[int], length: int) -> float:
    taken = []
    for start in starts:
        began = time.process_time()
        read_audio(f"{path}:{start}:{length}", rate)
        taken.append(1000 * (time.process_time() - began))
    return round(statistics.median(taken), 2)


def _apart(path: Path, rate: int, start: int, length: int) -> float:
    """Return the largest difference of a segment's samples from those of decoding from the beginning."""
    whole = soundfile.read(path, frames=start + length, dtype="float32")[0][start:]
    return float(np.abs(read_audio(f"{path}:{start}:{length}", rate).numpy() - whole).max())
