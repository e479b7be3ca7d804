"""Small copies of MUSAN's and OpenSLR 28's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
RULE = "=" * 40
FMA = f"""music-fma-0000.wav
Title: A song. Licensed under Creative Commons Attribution 3.0 (http://creativecommons.org/licenses/by/3.0/)
{RULE}
music-fma-0001.wav music-fma-0002.wav
Attribution-NonCommercial-ShareAlike 3.0 International
{RULE}
music-fma-0003.wav
Public Domain Mark 1.0
"""
LICENSES = {
    "noise/free-sound": "All recordings in this folder were marked as being in the Public Domain.\n",
    "noise/sound-bible": f"noise-sound-bible-0001.wav\nAttribution 3.0 | Recorded by Someone\n{RULE}\n",
    "music/fma": FMA,
    "speech/librivox": "LibriVox recordings are in the public domain.\n",
    "speech/us-gov": "Works of the government; public domain.\n",
}
COUNTS = {"noise/free-sound": 3, "noise/sound-bible": 2, "music/fma": 5, "speech/librivox": 2, "speech/us-gov": 1}


def write(path: Path, samples: int, seed: int, channels: int = 1) -> None:
    """Write a short noise of one or more channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * draw.standard_normal((samples, channels)), RATE, subtype="PCM_16")


def musan_tree(root: Path) -> Path:
    """Write what musan.tar.gz unpacks to below ``root``: one file does not decode, one has no licence; returns root."""
    for subset, count in COUNTS.items():
        kind, name = subset.split("/")
        for number in range(count):
            write(root / "musan" / subset / f"{kind}-{name}-{number:04}.wav", 1600 + 100 * number, number)
        (root / "musan" / subset / "LICENSE").write_text(LICENSES[subset])
        (root / "musan" / subset / "ANNOTATIONS").write_text("")
    (root / "musan/noise/free-sound/noise-free-sound-0002.wav").write_bytes(b"RIFFbroken")
    (root / "musan/README").write_text("MUSAN\n")
    return root


def rirs_tree(root: Path) -> Path:
    """Write what rirs_noises.zip unpacks to below ``root``; returns root."""
    base = root / "RIRS_NOISES"
    real = base / "real_rirs_isotropic_noises"
    write(real / "RVB2014_type1_rir_largeroom1_far_angla.wav", 2000, 0, channels=8)
    write(real / "RWCP_type1_rir_cirline_jr1_imp010.wav", 1500, 1)
    write(real / "RVB2014_type1_noise_largeroom1_1.wav", 4000, 2, channels=8)
    soundfile.write(real / "air_type1_air_binaural_zeros.wav", np.zeros((100, 2)), RATE, subtype="PCM_16")
    (real / "RWCP_type1_rir_cirline_jr1_imp020.wav").write_bytes(b"broken")
    for size in ("smallroom", "largeroom"):
        for number in range(2):
            write(base / "simulated_rirs" / size / "Room001" / f"Room001-{number:05}.wav", 1200, 3 + number)
        (base / "simulated_rirs" / size / "rir_list").write_text("")
    write(base / "pointsource_noises" / "noise-free-sound-0000.wav", 3000, 9)
    return root
