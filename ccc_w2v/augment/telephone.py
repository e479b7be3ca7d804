"""The telephone: a narrow band, 8 kHz, G.711, line noise and lost packets, and back to the task's rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, draw_integer, match_level, power, scale_to_power, setting
from ccc_w2v.augment.dropout import mute
from ccc_w2v.augment.filtering import band_pass, check_band
from ccc_w2v.augment.noise import SEEDS
from ccc_w2v.errors import InputError

RATE = 8000  # Hz
PACKET_S = 0.02
LAWS = ("mu", "a")


@dataclass
class Telephone(Transform):
    """A call over the telephone network, at the level of the original.

    Band-pass, resampling to 8 kHz, level at the codec, noise of the line, G.711 coding (mu-law in America and Japan,
    A-law elsewhere), packets lost in bursts and muted by the receiver, resampling to the task's rate.

    A sample within rounding of a decision level of the codec may be coded one step apart on another device, which the
    last low-pass spreads over a few milliseconds. Everything in the call is computed in float64, so that this happens
    only behind a transform whose float32 sums differ between devices (noise): to about one of 50,000 coded samples.
    """

    name = "telephone"
    keeps_time = True

    law: str = setting("companding of the codec; both draws one for each call", default="both", choices=(*LAWS, "both"))
    low_hz: Range = setting("lower edge of the band in Hz", default=Range(300.0, 300.0), minimum=0.0)
    high_hz: Range = setting("upper edge of the band in Hz", default=Range(3400.0, 3400.0), maximum=RATE / 2)
    level_dbov: Range = setting(
        "speech level at the codec in dB of full scale (RMS)", default=Range(-36.0, -16.0), minimum=-60.0, maximum=0.0
    )
    line_noise_p: float = setting("share of calls with a noisy line", default=0.0, minimum=0.0, maximum=1.0)
    line_snr_db: Range = setting("signal-to-noise ratio of a noisy line in dB", default=Range(20.0, 45.0))
    packet_loss_p: float = setting("share of calls that lose packets of 20 ms", default=0.0, minimum=0.0, maximum=1.0)
    lost_share: Range = setting(
        "share of such a call's packets that are lost", default=Range(0.005, 0.05), minimum=0.0, maximum=0.5
    )
    burst: float = setting("packets lost in a row, on average", default=2.0, minimum=1.0, maximum=50.0)

    def __post_init__(self) -> None:
        check_band(self.low_hz, self.high_hz, RATE)
        if self.sample_rate % RATE:
            raise InputError(f"a sample rate of {self.sample_rate} Hz; the telephone needs a multiple of {RATE}")

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        # Everything is drawn whatever the coins say, so that a changed probability changes nothing else.
        law = LAWS[draw_integer(generator, len(LAWS))]
        noisy, lossy = (torch.rand(2, generator=generator, dtype=torch.float64)).tolist()
        drawn = {
            "law": law if self.law == "both" else self.law,
            "low_hz": self.low_hz.draw(generator),
            "high_hz": self.high_hz.draw(generator),
            "level_dbov": self.level_dbov.draw(generator),
            "line_snr_db": self.line_snr_db.draw(generator),
            "noise_seed": draw_integer(generator, SEEDS),
            "lost": self._draw_lost(generator, samples),
        }
        if noisy >= self.line_noise_p:
            drawn["line_snr_db"] = None
        if lossy >= self.packet_loss_p:
            drawn["lost"] = []
        return drawn

    def material(self, drawn: Parameters, samples: int) -> Tensor:
        length = -(-samples * RATE // self.sample_rate)
        if drawn["line_snr_db"] is None:
            return torch.zeros(length)
        return torch.randn(length, generator=torch.Generator().manual_seed(drawn["noise_seed"]))

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        # The filters of the band are those of the resampling too: ten times as fast as torchaudio's in float64.
        stride = self.sample_rate // RATE
        bands = [(drawn["low_hz"], drawn["high_hz"]) for drawn in parameters]
        narrow_RN = band_pass(waves_RS.double(), bands, self.sample_rate)[:, ::stride]
        level_R1 = narrow_RN.new_tensor([10 ** (drawn["level_dbov"] / 10) for drawn in parameters]).unsqueeze(1)
        narrow_RN = scale_to_power(narrow_RN, level_R1)
        snr_R1 = narrow_RN.new_tensor([drawn["line_snr_db"] or 0.0 for drawn in parameters]).unsqueeze(1)
        noise_RN = torch.stack(self.materials(waves_RS, parameters)).to(narrow_RN)
        narrow_RN = narrow_RN + noise_RN * (power(narrow_RN) / 10 ** (snr_R1 / 10)).sqrt()
        coded_RN = torch.stack(
            [g711(wave_N, drawn["law"]) for wave_N, drawn in zip(narrow_RN, parameters, strict=True)]
        )
        spread_RS = waves_RS.new_zeros((len(waves_RS), coded_RN.shape[1] * stride), dtype=torch.float64)
        # Back to the rate by zeros between samples, whose images the next low-pass removes.
        spread_RS[:, ::stride] = mute(coded_RN, [drawn["lost"] for drawn in parameters])
        heard_RS = band_pass(spread_RS, [(0.0, RATE / 2)] * len(parameters), self.sample_rate)
        return match_level(heard_RS[:, : waves_RS.shape[1]], waves_RS.double()).to(waves_RS)

    def _draw_lost(self, generator: torch.Generator, samples: int) -> list[list[int]]:
        """Draw lost packets as [first sample at 8 kHz, samples], from Gilbert's two-state chain."""
        packet = round(PACKET_S * RATE)
        share = self.lost_share.draw(generator)
        coins = torch.rand(-(-samples * RATE // (self.sample_rate * packet)), generator=generator).tolist()
        # A burst is entered with probability p and left with q = 1 / burst, so that p / (p + q) is the share.
        starts, lost, inside = share / ((1 - share) * self.burst), [], False
        for index, coin in enumerate(coins):
            inside = coin >= 1 / self.burst if inside else coin < starts
            if inside:
                lost.append([index * packet, packet])
        return lost


def g711(wave_N: Tensor, law: str) -> Tensor:
    """Code and decode a wave in [-1, 1] by ITU-T G.711; ``law`` is "mu" or "a". Louder samples are clipped."""
    levels_V = _levels(law).to(wave_N)
    # The nearest level: decision levels lie in the middle between two.
    return levels_V[torch.bucketize(wave_N, (levels_V[1:] + levels_V[:-1]) / 2)]


def _levels(law: str) -> Tensor:
    """Return the values (V,) float64 that G.711 decodes to, ascending."""
    segment_88, step_88 = torch.meshgrid(torch.arange(8), torch.arange(16), indexing="ij")
    if law == "mu":
        magnitude = ((2 * step_88 + 33) * 2**segment_88 - 33) * 4
    else:
        # The first two segments of A-law have steps of one size.
        magnitude = (
            torch.where(segment_88 == 0, 2 * step_88 + 1, (2 * step_88 + 33) * 2 ** (segment_88 - 1).clamp(0)) * 8
        )
    magnitude_V = magnitude.flatten().double() / 2**15
    return torch.cat([-magnitude_V.flip(0), magnitude_V]).unique()
