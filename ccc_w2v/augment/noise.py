"""Additive noise: Gaussian, and recordings mixed in at a signal-to-noise ratio: background, music, babble."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, draw_integer, match_level, power, setting
from ccc_w2v.augment.recordings import Recordings
from ccc_w2v.errors import InputError

SEEDS = 2**62
SILENCE = 1e-8  # mean square, -80 dBFS: louder than that is more than the rounding of 16 bits
STARTS, RECORDINGS = 4, 8  # slices tried in one recording, and recordings tried, before a manifest counts as silent


@dataclass
class GaussianNoise(Transform):
    """White noise with a standard deviation of u times the wave's, u uniform in std_ratio."""

    name = "gaussian_noise"
    keeps_time = True

    std_ratio: Range = setting(
        "standard deviation of the noise over that of the wave; 0.001 is 60 dB SNR, 0.7 is 3.1 dB",
        default=Range(0.001, 0.7),
        minimum=0.0,
    )

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"std_ratio": self.std_ratio.draw(generator), "noise_seed": draw_integer(generator, SEEDS)}

    def material(self, drawn: Parameters, samples: int) -> Tensor:
        # On the CPU whatever the waves' device: a GPU's generator gives other numbers for the same seed.
        return torch.randn(samples, generator=torch.Generator().manual_seed(drawn["noise_seed"]))

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        ratio_R1 = waves_RS.new_tensor([drawn["std_ratio"] for drawn in parameters]).unsqueeze(1)
        noise_RS = torch.stack(self.materials(waves_RS, parameters))
        # In place, here and below: a fresh tensor of this size costs as much as the sum.
        return noise_RS.mul_(ratio_R1 * waves_RS.std(dim=1, correction=0, keepdim=True)).add_(waves_RS)


@dataclass
class RecordedNoise(Transform):
    """Recordings of a manifest, mixed in at snr_db on power over the crop, at the level of the speech alone.

    A slice as long as the crop is read, a shorter recording is repeated. A silent slice is replaced by another one,
    then by another recording, so that the ratio always means something.

    Raises InputError as Recordings does, and for recordings that hold nothing but silence.
    """

    keeps_time = True
    key: ClassVar[str]
    """The setting of a run that gives the manifest."""

    def __post_init__(self) -> None:
        # Each kind of noise declares these two as settings of its own, with its own defaults.
        self.manifest: Path
        self.snr_db: Range
        self.recordings = Recordings(self.manifest, self.sample_rate, self.key)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {**self.draw_slice(generator, samples), "snr_db": self.snr_db.draw(generator)}

    def material(self, drawn: Parameters, samples: int) -> Tensor:
        return self.audible_noise(drawn, samples)

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        noise_RS = torch.stack(self.materials(waves_RS, parameters))
        snr_R1 = waves_RS.new_tensor([drawn["snr_db"] for drawn in parameters]).unsqueeze(1)
        # SNR = 10 log10(P_speech / (gain^2 P_noise)), solved for the gain.
        gain_R1 = (power(waves_RS) / (power(noise_RS) * 10 ** (snr_R1 / 10))).sqrt()
        return match_level(noise_RS.mul_(gain_R1).add_(waves_RS), waves_RS)

    def draw_slice(self, generator: torch.Generator, samples: int) -> Parameters:
        """Draw a recording and where its slice of ``samples`` samples begins."""
        index = draw_integer(generator, len(self.recordings))
        return {
            "index": index,
            "start": self._draw_start(generator, index, samples),
            "redraw_seed": draw_integer(generator, SEEDS),
        }

    def audible_noise(self, drawn: Parameters, samples: int) -> Tensor:
        """Return the noise (S,) of one drawn slice, at the recording's own level.

        Raises InputError when the recordings tried hold nothing but silence.
        """
        generator = torch.Generator().manual_seed(drawn["redraw_seed"])
        index, start = drawn["index"], drawn["start"]
        for _ in range(RECORDINGS):
            # Every start of a repeated recording gives the same samples.
            whole = self.recordings.samples(index) <= samples
            for _ in range(1 if whole else STARTS):
                noise_S = self._read(index, start, samples)
                if noise_S.dot(noise_S) > SILENCE * samples:
                    return noise_S
                start = self._draw_start(generator, index, samples)
            index = (index + 1) % len(self.recordings)
            start = self._draw_start(generator, index, samples)
        raise InputError(
            f"{self.recordings.where(drawn['index'])}: digital silence, and so are the recordings after it; "
            f"remove the silent lines from task.{self.key}"
        )

    def _draw_start(self, generator: torch.Generator, index: int, samples: int) -> int:
        recorded = self.recordings.samples(index)
        return draw_integer(generator, recorded if recorded <= samples else recorded - samples + 1)

    def _read(self, index: int, start: int, samples: int) -> Tensor:
        recorded = self.recordings.samples(index)
        if recorded > samples:
            return self.recordings.read(index, start, samples)
        # -(-a // b) rounds up: as many repetitions as fill the crop.
        return self.recordings.read(index).roll(-start).repeat(-(-samples // recorded))[:samples]


@dataclass
class BackgroundNoise(RecordedNoise):
    """One recording of noises, mixed in as RecordedNoise does."""

    name = "background_noise"
    key = "noise_manifest"

    manifest: Path = setting("manifest (.tsv) of noise recordings, mono, at the task's rate", override="noise_manifest")
    snr_db: Range = setting("signal-to-noise ratio in dB, true power over the crop", default=Range(0.0, 15.0))


@dataclass
class Music(RecordedNoise):
    """One recording of music, mixed in as RecordedNoise does."""

    name = "music"
    key = "music_manifest"

    manifest: Path = setting("manifest (.tsv) of music, mono, at the task's rate", override="music_manifest")
    snr_db: Range = setting("signal-to-music ratio in dB, true power over the crop", default=Range(5.0, 15.0))


@dataclass
class Babble(RecordedNoise):
    """Several voices of a speech manifest at equal power, mixed in together as RecordedNoise does."""

    name = "babble"
    key = "babble_manifest"

    manifest: Path = setting("manifest (.tsv) of speech, mono, at the task's rate", override="babble_manifest")
    snr_db: Range = setting("signal-to-babble ratio in dB, true power over the crop", default=Range(10.0, 20.0))
    voices: Range = setting(
        "how many voices talk at once, rounded to a whole number", default=Range(3.0, 7.0), minimum=1.0, maximum=20.0
    )

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        voices = [self.draw_slice(generator, samples) for _ in range(round(self.voices.draw(generator)))]
        return {"voices": voices, "snr_db": self.snr_db.draw(generator)}

    def material(self, drawn: Parameters, samples: int) -> Tensor:
        voices_VS = torch.stack([self.audible_noise(voice, samples) for voice in drawn["voices"]])
        # Every voice at mean square 1: none is in front.
        return (voices_VS / power(voices_VS).sqrt()).sum(dim=0)
