"""NIST SPHERE recordings: what their headers say, and the two sides of a call, decoded by libsndfile.

libsndfile reads two-channel mu-law and PCM. Samples compressed with "shorten" inside the file, as some discs have them,
it does not; the header tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

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
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError(f"{path}: SPHERE of coding {coding} that libsndfile does not read ({error})") from error
    if info.samplerate != SAMPLE_RATE or info.channels != len(SIDES):
        raise InputError(
            f"{path}: {info.channels} channel(s) at {info.samplerate} Hz, expected a call's two at {SAMPLE_RATE} Hz"
        )
    declared = int(fields.get("sample_count", info.frames))
    # The first release of Switchboard counted the samples of both channels together.
    if info.frames < declared and info.frames * info.channels != declared:
        raise InputError(
            f"{path}: truncated, {info.frames} of {declared} samples are there; copy the file from its disc again"
        )
    return Call(path, info.frames)


def read_header(path: str | Path) -> dict[str, str]:
    """Return the fields of a SPHERE header as text; raises InputError for a file without one."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    if not head.startswith(MAGIC):
        raise InputError(f"{path}: no NIST SPHERE file (it does not begin with NIST_1A)")
    fields = {}
    for line in head.decode("latin-1").splitlines()[2:]:
        if line.strip() == "end_head":
            break
        name, *value = line.split(maxsplit=2)
        if len(value) == 2:
            fields[name] = value[1].strip()
    return fields


def read_sides(call: Call) -> np.ndarray:
    """Return the samples of both sides (2, S), float32, full scale 1; raises InputError for a damaged file."""
    try:
        wave_SC, _ = soundfile.read(call.path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError(f"{call.path}: cannot be decoded ({error}); copy the file from its disc again") from error
    if len(wave_SC) != call.samples:
        raise InputError(f"{call.path}: {len(wave_SC)} of {call.samples} samples could be read; replace the file")
    return np.ascontiguousarray(wave_SC.T)
