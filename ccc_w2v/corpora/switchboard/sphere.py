"""NIST SPHERE recordings: what their headers say, and the two sides of a call, decoded by libsndfile.

libsndfile reads two-channel mu-law and PCM. Samples compressed with "shorten" inside the file, as some discs have them,
it does not; the header tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccc_w2v.data.sound_file import open_sound, read_sound
from ccc_w2v.errors import InputError

SAMPLE_RATE = 8_000
SIDES = ("A", "B")
MAGIC = b"NIST_1A\n"
HEADER_BYTES = 1024


@dataclass(frozen=True)
class Call:
    """A recording of a call, one channel for each side: its file and its length in samples of each channel."""

    path: Path
    samples: int

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.samples / SAMPLE_RATE


def open_call(path: str | Path) -> Call:
    """Look at a recording's header and size; nothing is decoded.

    Raises InputError for a file that is no SPHERE, compressed, of another rate, not of two channels, or shorter than
    its header declares.
    """
    path = Path(path)
    fields = read_header(path)
    coding = fields.get("sample_coding", "pcm")
    if "shorten" in coding:
        raise InputError(
            f"{path}: its samples are compressed with shorten ({coding}), which libsndfile does not read; convert the "
            f"folder once with LDC's sph2pipe: sph2pipe -f sph -u {path.name} uncompressed/{path.name}"
        )
    with open_sound(path, f"{path}: SPHERE of coding {coding}") as recording:
        rate, channels, frames = recording.samplerate, recording.channels, recording.frames
    if rate != SAMPLE_RATE or channels != len(SIDES):
        raise InputError(f"{path}: {channels} channel(s) at {rate} Hz, expected a call's two at {SAMPLE_RATE} Hz")
    declared = _count(fields.get("sample_count", str(frames)), path)
    # The first release of Switchboard counted the samples of both channels together.
    if frames < declared and frames * channels != declared:
        raise InputError(
            f"{path}: truncated, {frames} of {declared} samples are there; copy the file from its disc again"
        )
    return Call(path, frames)


def _count(value: str, path: Path) -> int:
    if not value.isdecimal() or len(value) > 18:
        raise InputError(f"{path}: its header's sample_count is {value:.40}, expected a whole number; replace the file")
    return int(value)


def read_header(path: str | Path) -> dict[str, str]:
    """Return the fields of a SPHERE header as text; raises InputError for a file without one."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not head.startswith(MAGIC):
        raise InputError(f"{path}: no NIST SPHERE file (it does not begin with NIST_1A)")
    fields = {}
    for line in head.decode("latin-1").splitlines()[2:]:
        if line.strip() == "end_head":
            break
        match line.split(maxsplit=2):
            case [name, _, value]:
                fields[name] = value.strip()
    return fields


def read_sides(call: Call) -> np.ndarray:
    """Return the samples of both sides (2, S), float32, full scale 1; raises InputError for a damaged file."""
    wave_SC, _ = read_sound(call.path)
    if len(wave_SC) != call.samples:
        raise InputError(f"{call.path}: {len(wave_SC)} of {call.samples} samples could be read; replace the file")
    return np.ascontiguousarray(wave_SC.T)
