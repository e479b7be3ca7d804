"""Band limiting by a linear-phase filter whose delay is taken back, so that no frame moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, match_level, setting
from ccc_w2v.augment.convolution import convolve
from ccc_w2v.errors import InputError

# 60 dB of attenuation, reached 90 Hz beyond either edge (Kaiser's formulas).
KAISER_BETA, TAPS_S = 5.65, 0.04


@dataclass
class BandLimit(Transform):
    """Only the band from low_hz to high_hz is left, at the level of the whole."""

    name = "band_limit"
    keeps_time = True

    low_hz: Range = setting("lower edge (-6 dB) in Hz; 0 cuts nothing", default=Range(0.0, 300.0), minimum=0.0)
    high_hz: Range = setting(
        "upper edge (-6 dB) in Hz; half the sample rate cuts nothing", default=Range(2500.0, 8000.0), minimum=1.0
    )

    def __post_init__(self) -> None:
        check_band(self.low_hz, self.high_hz, self.sample_rate)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"low_hz": self.low_hz.draw(generator), "high_hz": self.high_hz.draw(generator)}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        bands = [(drawn["low_hz"], drawn["high_hz"]) for drawn in parameters]
        return match_level(band_pass(waves_RS, bands, self.sample_rate), waves_RS)


def check_band(low_hz: Range, high_hz: Range, sample_rate: int) -> None:
    """Raise InputError for ranges from which an empty band can be drawn."""
    if low_hz.high >= min(high_hz.low, sample_rate / 2):
        raise InputError(
            f"low_hz up to {low_hz.high:g} and high_hz from {high_hz.low:g} at {sample_rate} Hz can leave no band; "
            "keep the two ranges apart and below half the sample rate"
        )


def band_pass(waves_RS: Tensor, bands_hz: list[tuple[float, float]], sample_rate: int) -> Tensor:
    """Keep one band (low, high) of each wave; same shape, no delay."""
    responses = [band_response(low, high, sample_rate).to(waves_RS) for low, high in bands_hz]
    return convolve(waves_RS, responses, [len(response_L) // 2 for response_L in responses])


def band_response(low_hz: float, high_hz: float, sample_rate: int) -> Tensor:
    """Return a band-pass filter (L,) float64 of linear phase, its middle at sample L // 2; Kaiser-windowed sinc."""
    half = round(TAPS_S * sample_rate / 2)
    time_L = torch.arange(-half, half + 1, dtype=torch.float64)

    def low_pass(edge_hz: float) -> Tensor:
        # The edge as a share of half the rate: the sinc of an ideal low-pass; 1 is all-pass.
        share = min(2 * edge_hz / sample_rate, 1.0)
        return share * torch.sinc(share * time_L)

    window_L = torch.kaiser_window(2 * half + 1, periodic=False, beta=KAISER_BETA, dtype=torch.float64)
    return (low_pass(high_hz) - low_pass(low_hz)) * window_L
