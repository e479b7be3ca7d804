"""Reverberation by recorded impulse responses (OpenSLR 28, for one), aligned to the direct path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Transform, draw_integer, match_level, setting
from ccc_w2v.augment.convolution import convolve
from ccc_w2v.augment.recordings import Recordings
from ccc_w2v.errors import InputError

BEFORE_S = 0.0025  # kept before the direct path: a loudspeaker's and a filter's ringing


@dataclass
class RecordedReverb(Transform):
    """Convolution with one impulse response of a manifest, at the level of the dry speech.

    The direct path is the response's strongest sample: whatever came before it as travel time is cut off, so that
    frames stay where they are. Raises InputError as Recordings does, and for a response of zeros.
    """

    name = "recorded_reverb"
    keeps_time = True

    manifest: Path = setting("manifest (.tsv) of impulse responses, mono, at the task's rate", override="rir_manifest")
    length_s: float = setting(
        "seconds of a response that are used, from its direct path on", default=1.0, minimum=0.01, maximum=10.0
    )

    def __post_init__(self) -> None:
        self.responses = Recordings(self.manifest, self.sample_rate, "rir_manifest")
        self.direct = round(BEFORE_S * self.sample_rate)
        for index in range(len(self.responses)) if self.responses.checked_at_start else ():
            self.material({"index": index}, 0)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"index": draw_integer(generator, len(self.responses))}

    def material(self, drawn: Parameters, samples: int) -> Tensor:
        response_L = self.responses.read(drawn["index"])
        peak = int(response_L.abs().argmax())
        if response_L[peak] == 0:
            raise InputError(
                f"{self.responses.where(drawn['index'])}: an impulse response of zeros; remove the line from "
                "task.rir_manifest"
            )
        response_L = response_L[max(0, peak - self.direct) : peak + round(self.length_s * self.sample_rate)]
        return F.pad(response_L, (max(0, self.direct - peak), 0))

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        responses = self.materials(waves_RS, parameters)
        return match_level(convolve(waves_RS, responses, [self.direct] * len(responses)), waves_RS)
