"""Room impulse responses and noises: recorded and simulated rooms, isotropic and point-source noises (OpenSLR 28).

Put together by Tom Ko and others for "A study on data augmentation of reverberant speech for robust speech recognition"
(ICASSP 2017): 325 responses from the RWCP, REVERB 2014 and AIR collections, 60,000 of simulated rooms, 843 noises of
MUSAN. 16 kHz; what was recorded has up to eight channels, of which the first is used, as in Kaldi.

What `prepare` writes into a folder:
    real.tsv, simulated.tsv, isotropic_noise.tsv, pointsource_noise.tsv     manifests of what is there and decodes
    audio/              first channels of the recorded responses and isotropic noises, 16 bit FLAC
    download/           what was fetched
"""

from __future__ import annotations

from pathlib import Path

import soundfile
from tqdm import tqdm

from ccc_w2v.corpora.download import fetch_corpus, pinned_archive
from ccc_w2v.corpora.inventory import write_checked
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.data.sound_file import read_sound
from ccc_w2v.errors import InputError
from ccc_w2v.files import appearing

REAL = "real_rirs_isotropic_noises"


def prepare(out: str | Path, *, source: str | Path | None = None, url: str | None = None) -> dict[str, int]:
    """Fetch the archive, or take the folder ``source``, and write manifests; returns the number of lines of each.

    Raises InputError for a folder that holds no recorded and no simulated responses. A part that is missing is left
    out, and so is a file that is silent or cannot be decoded, with a message.
    """
    out = Path(out).resolve()
    folder = fetch_corpus(pinned_archive("rirs_noises"), out / "download", url) if source is None else Path(source)
    root = find_root(folder)
    recorded = sorted((root / REAL).glob("*.wav"))
    noises = {path for path in recorded if "_noise_" in path.name}
    parts = {
        "real": (out / "audio", _first_channels([path for path in recorded if path not in noises], out / "audio")),
        "isotropic_noise": (out / "audio", _first_channels(sorted(noises), out / "audio")),
        "simulated": (root, sorted((root / "simulated_rirs").glob("*/*/*.wav"))),
        "pointsource_noise": (root, sorted((root / "pointsource_noises").glob("*.wav"))),
    }
    lines = {}
    for name, (base, files) in parts.items():
        if files:
            _, bad = write_checked(out / f"{name}.tsv", base, files)
            lines[name] = len(read_manifest(out / f"{name}.tsv"))
            for message in bad:
                print(f"left out: {message}")
    return lines


def find_root(folder: Path) -> Path:
    """Return the folder of the responses: ``folder``, or RIRS_NOISES in it."""
    for root in (folder.resolve(), folder.resolve() / "RIRS_NOISES"):
        if (root / REAL).is_dir() or (root / "simulated_rirs").is_dir():
            return root
    raise InputError(
        f"{folder}: holds no impulse responses (folders {REAL}, simulated_rirs); unpack rirs_noises.zip there"
    )


def _first_channels(files: list[Path], audio: Path) -> list[Path]:
    """Write the first channel of each recording that is not written yet; return those of all that can be read."""
    written = []
    for file in tqdm(files, desc="first channels", unit="file", disable=not files):
        target = audio / f"{file.stem}.flac"
        try:
            if not target.is_file():
                _write_first_channel(file, target)
            written.append(target)
        except InputError as error:
            print(f"left out: {error}")
    return written


def _write_first_channel(file: Path, target: Path) -> None:
    wave, rate = read_sound(file)
    with appearing(target, durable=False) as partial:
        soundfile.write(partial, wave[:, 0], rate, subtype="PCM_16", format="FLAC")
