"""Reverberation by simulated rooms, aligned to the direct path so that no frame moves.

A pool of rooms is simulated with pyroomacoustics: image sources for the early reflections, ray tracing for the tail
(Scheibler et al., "Pyroomacoustics", ICASSP 2018). Room i of a pool is the same in every process and after a restart;
room_cache.py keeps what is simulated.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import astuple, dataclass, field

import numpy as np
import torch
from torch import Tensor

from ccc_w2v.augment.base import Parameters, Range, Transform, draw_integer, match_level, setting
from ccc_w2v.augment.convolution import convolve
from ccc_w2v.augment.room_cache import pool
from ccc_w2v.data.randomness import generator_for, seed_for
from ccc_w2v.errors import InputError

BANDS_HZ = np.array([125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0])
SCATTERING = 0.2  # share of a reflection that is diffuse: furnished rooms; without it echoes flutter
# 0.3 s for one room. With 10,000 rays it takes half as long again, and decay times change by 2 % on average.
IMAGE_ORDER, RAYS = 10, 3000
ATTEMPTS = 20
POOL_VERSION = 1  # to be raised when a change below makes other rooms: it names the pools in the cache
WALL_M = 0.5  # nobody speaks and no microphone stands nearer to a wall


@dataclass
class Reverb(Transform):
    """Convolution with the response of one room of a pool, at the level of the dry speech.

    Each room draws its size, its walls' absorption (from the reverberation time) and where speaker and microphone are.
    """

    name = "reverb"
    keeps_time = True

    rooms: int = setting("rooms in the pool; each takes 0.3 s to simulate, once on a machine", default=1000, minimum=1)
    seed: int = setting("which pool: the same seed gives the same rooms", default=0, minimum=0)
    rt60_s: Range = setting(
        "reverberation time at 1 kHz in seconds, by Eyring's formula; a long or flat room rings up to 1.7 times that",
        default=Range(0.1, 1.0),
        minimum=0.05,
        maximum=5.0,
    )
    damping: Range = setting(
        "reverberation time falls as (f / 1 kHz) to the power -damping above 1 kHz",
        default=Range(0.0, 0.5),
        minimum=0.0,
        maximum=2.0,
    )
    edge_m: Range = setting("length and width of a room in metres", default=Range(3.0, 12.0), minimum=1.5, maximum=50.0)
    height_m: Range = setting("height of a room in metres", default=Range(2.4, 5.0), minimum=1.5, maximum=20.0)
    distance_m: Range = setting(
        "from speaker to microphone in metres, or less where the room is too small",
        default=Range(0.5, 5.0),
        minimum=0.1,
    )
    responses: dict[int, tuple[Tensor, int]] = field(default_factory=dict, init=False, repr=False)

    def draw(self, generator: torch.Generator, samples: int) -> Parameters:
        return {"room": draw_integer(generator, self.rooms)}

    def change(self, waves_RS: Tensor, parameters: list[Parameters]) -> Tensor:
        rooms = [self.response(drawn["room"]) for drawn in parameters]
        wet_RS = convolve(
            waves_RS, [response_L.to(waves_RS) for response_L, _ in rooms], delays=[direct for _, direct in rooms]
        )
        return match_level(wet_RS, waves_RS)

    def prepare(self) -> None:
        """Read the whole pool from the cache on disk; simulate what is not there yet, with a progress bar."""
        if any(room not in self.responses for room in range(self.rooms)):
            self.responses.update(enumerate(pool(self._pool_name(), self.rooms, self.response)))

    def _pool_name(self) -> str:
        """Return a name that differs wherever a room may: by its settings, and by what simulates it."""
        import pyroomacoustics

        ranges = (self.rt60_s, self.damping, self.edge_m, self.height_m, self.distance_m)
        simulation = (POOL_VERSION, IMAGE_ORDER, RAYS, SCATTERING, WALL_M, ATTEMPTS, BANDS_HZ.tolist())
        known = [pyroomacoustics.__version__, self.sample_rate, self.seed, *map(astuple, ranges), *simulation]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]

    def response(self, room: int) -> tuple[Tensor, int]:
        """Return a room's impulse response (L,), simulated when first asked for, and its direct path's sample.

        Raises InputError for ranges in which reflections are stronger than the direct path wherever one stands.
        """
        if room not in self.responses:
            for attempt in range(ATTEMPTS):
                response_L, direct = self._simulate(room, attempt)
                # Where reflections add up to more than the direct path, they would be what frames align to.
                if abs(int(response_L.abs().argmax()) - direct) <= 1:
                    self.responses[room] = (response_L, direct)
                    break
            else:
                raise InputError(
                    f"reverb: the direct path is drowned by reflections in {ATTEMPTS} of {ATTEMPTS} rooms; "
                    "lower distance_m or rt60_s, or make the rooms larger"
                )
        return self.responses[room]

    def _simulate(self, room: int, attempt: int) -> tuple[Tensor, int]:
        import pyroomacoustics  # it loads scipy.signal, which takes seconds

        # The simulator knows one generator for the whole package only; its threads would add in another order.
        seed = seed_for(self.seed, "room", room, attempt)
        pyroomacoustics.random.seed(numpy=seed, libroom=seed)
        pyroomacoustics.constants.set("num_threads", 1)

        size_3, speaker_3, microphone_3, absorption = self._draw_room(generator_for(self.seed, "room", room, attempt))
        walls = pyroomacoustics.Material(
            energy_absorption={"coeffs": absorption, "center_freqs": BANDS_HZ.tolist()}, scattering=SCATTERING
        )
        simulation = pyroomacoustics.ShoeBox(
            size_3,
            fs=self.sample_rate,
            materials=walls,
            max_order=IMAGE_ORDER,
            ray_tracing=True,
            air_absorption=True,
        )
        simulation.set_ray_tracing(n_rays=RAYS)
        simulation.add_source(speaker_3).add_microphone(microphone_3)
        simulation.compute_rir()
        # From the direct sound on: the time that it travels would move every frame.
        travel = round(float(np.linalg.norm(microphone_3 - speaker_3)) / simulation.c * self.sample_rate)
        response_L = torch.from_numpy(simulation.rir[0][0][travel:].astype(np.float32))
        # Arrivals are interpolated by a filter of this length, so half of the direct path comes before its sample.
        return response_L, pyroomacoustics.constants.get("frac_delay_length") // 2

    def _draw_room(self, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
        """Draw size, speaker's and microphone's place (3,) in metres, and the walls' absorption in BANDS_HZ."""
        size_3 = np.array([self.edge_m.draw(generator), self.edge_m.draw(generator), self.height_m.draw(generator)])
        places_23 = torch.rand((2, 3), generator=generator, dtype=torch.float64).numpy()
        speaker_3, toward_3 = WALL_M + places_23 * (size_3 - 2 * WALL_M)
        # On the line to a second place in the room: any distance up to that one is inside as well.
        reach = float(np.linalg.norm(toward_3 - speaker_3))
        microphone_3 = speaker_3 + (toward_3 - speaker_3) * min(1.0, self.distance_m.draw(generator) / reach)
        rt60_s, damping = self.rt60_s.draw(generator), self.damping.draw(generator)
        rt60_by_band = rt60_s * np.maximum(1.0, BANDS_HZ / 1000.0) ** -damping
        return size_3, speaker_3, microphone_3, eyring_absorption(size_3, rt60_by_band).tolist()


def eyring_absorption(size_3: np.ndarray, rt60_s: np.ndarray, speed_of_sound: float = 343.0) -> np.ndarray:
    """Return the share of energy that walls must absorb for a reverberation time in a box of this size in metres.

    Source: C. F. Eyring, "Reverberation time in dead rooms", JASA 1, 1930. Unlike Sabine's it never exceeds 1.
    """
    # RT60 = 24 ln(10) V / (-c S ln(1 - absorption)), solved for the absorption.
    volume = float(np.prod(size_3))
    surface = 2 * (volume / size_3).sum()
    return 1 - np.exp(-24 * math.log(10) / speed_of_sound * volume / (surface * rt60_s))
