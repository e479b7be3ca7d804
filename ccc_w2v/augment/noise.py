"""Additive noise: Gaussian, and recordings mixed in at a signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, draw_integer, match_level, power, setting
from ccc_w2v.data.audio import audio_samples, open_slice
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.errors import InputError

SEEDS = 2**62
SILENCE = 1e-8  # mean square, -80 dBFS: louder than that is more than the rounding of 16 bits
STARTS, RECORDINGS = 4, 8  # slices tried in one recording, and recordings tried, before a manifest counts as silent
CHECK_AT_START = 2000  # headers; a longer manifest is checked as it is read, not to keep a run waiting


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

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        ratio_R1 = waves_RS.new_tensor([one["std_ratio"] for one in parameters]).unsqueeze(1)
        # Drawn on the CPU whatever the waves' device: a GPU's generator gives other numbers for the same seed.
        noise_RS = torch.stack(
            [
                torch.randn(waves_RS.shape[1], generator=torch.Generator().manual_seed(one["noise_seed"]))
                for one in parameters
            ]
        ).to(waves_RS)
        return waves_RS + noise_RS * (ratio_R1 * waves_RS.std(dim=1, correction=0, keepdim=True))


@dataclass
class BackgroundNoise(Transform):
    """One recording of a manifest, mixed in at snr_db on power over the crop, at the level of the speech alone.

    A slice as long as the crop is read, a shorter recording is repeated. A silent slice is replaced by another one,
    then by another recording, so that the ratio always means something.

    Raises InputError for a manifest that is missing, malformed or empty, and for a recording of another rate, with
    more than one channel, of another length than listed, with samples that are not finite, or that cannot be decoded.
    """

    name = "background_noise"
    keeps_time = True

    manifest: Path = setting("manifest (.tsv) of noise recordings, mono, at the task's rate", override="noise_manifest")
    snr_db: Range = setting("signal-to-noise ratio in dB, true power over the crop", default=Range(0.0, 15.0))
    checked: set[int] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if not Path(self.manifest).is_file():
            raise InputError(f"{self.manifest}: no such noise manifest; check task.noise_manifest")
        self.recordings = read_manifest(self.manifest)
        if len(self.recordings) <= CHECK_AT_START:
            for index in range(len(self.recordings)):
                self._check_header(index)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        index = draw_integer(generator, len(self.recordings))
        return {
            "index": index,
            "start": self._draw_start(generator, index, samples),
            "snr_db": self.snr_db.draw(generator),
            "redraw_seed": draw_integer(generator, SEEDS),
        }

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        samples = waves_RS.shape[1]
        noise_RS = torch.stack([self.audible_noise(one, samples) for one in parameters]).to(waves_RS)
        snr_R1 = waves_RS.new_tensor([one["snr_db"] for one in parameters]).unsqueeze(1)
        gain_R1 = (power(waves_RS) / (power(noise_RS) * 10 ** (snr_R1 / 10))).sqrt()
        return match_level(waves_RS + gain_R1 * noise_RS, waves_RS)

    def audible_noise(self, drawn: Parameters, samples: int) -> Tensor:
        """Return the noise (S,) of one draw, at the recording's own level.

        Raises InputError when the recordings tried hold nothing but silence.
        """
        generator = torch.Generator().manual_seed(drawn["redraw_seed"])
        index, start = drawn["index"], drawn["start"]
        for _ in range(RECORDINGS):
            # Every start of a repeated recording gives the same samples.
            whole = self.recordings.entries[index].samples <= samples
            for _ in range(1 if whole else STARTS):
                noise_S = self._read(index, start, samples)
                if noise_S.square().mean() > SILENCE:
                    return noise_S
                start = self._draw_start(generator, index, samples)
            index = (index + 1) % len(self.recordings)
            start = self._draw_start(generator, index, samples)
        raise InputError(
            f"{self._where(drawn['index'])}: digital silence, and so are the recordings after it; "
            "remove the silent lines from the noise manifest"
        )

    def _draw_start(self, generator: torch.Generator, index: int, samples: int) -> int:
        recorded = self.recordings.entries[index].samples
        return draw_integer(generator, recorded if recorded <= samples else recorded - samples + 1)

    def _read(self, index: int, start: int, samples: int) -> Tensor:
        self._check_header(index)
        entry = self.recordings.entries[index]
        whole = entry.samples <= samples
        try:
            wave, _ = soundfile.read(
                open_slice(self.recordings.audio_path(entry)),
                frames=entry.samples if whole else samples,
                start=0 if whole else start,
                dtype="float32",
            )
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise InputError(f"{self._where(index)}: cannot be decoded ({error}); replace the file") from error
        noise_N = torch.from_numpy(wave)
        if not noise_N.isfinite().all():
            raise InputError(f"{self._where(index)}: holds samples that are NaN or infinite; replace the file")
        if not whole:
            return noise_N
        return noise_N.roll(-start).repeat(-(-samples // entry.samples))[:samples]

    def _check_header(self, index: int) -> None:
        if index in self.checked:
            return
        entry = self.recordings.entries[index]
        found = audio_samples(self.recordings.audio_path(entry), self.sample_rate, where=self.recordings.where(entry))
        if found != entry.samples:
            raise InputError(
                f"{self._where(index)}: {found} samples, the manifest declares {entry.samples}; write it again"
            )
        self.checked.add(index)

    def _where(self, index: int) -> str:
        entry = self.recordings.entries[index]
        return f"{self.recordings.where(entry)}: {self.recordings.audio_path(entry)}"
