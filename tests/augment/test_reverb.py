"""Reverb: convolution against scipy, decay times against the drawn ones, pools that repeat."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from pyroomacoustics import inverse_sabine
from pyroomacoustics.experimental import measure_rt60

from ccc_w2v.augment.base import Range, power
from ccc_w2v.augment.convolution import convolve
from ccc_w2v.augment.reverb import Reverb, eyring_absorption
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError

from .conftest import RATE


@pytest.mark.parametrize(("samples", "taps"), [(16000, 900), (1000, 1025), (7, 3), (4096, 1)])
def test_convolution_equals_scipy(samples, taps):
    draw = np.random.default_rng(samples)
    waves, responses = draw.standard_normal((3, samples)), draw.standard_normal((3, taps))
    delays = [0, taps // 2, taps - 1]
    convolved = convolve(torch.from_numpy(waves), list(torch.from_numpy(responses)), delays)
    for row, delay in enumerate(delays):
        expected = scipy.signal.fftconvolve(waves[row], responses[row])[delay : delay + samples]
        np.testing.assert_allclose(convolved[row], expected, atol=1e-9)


def test_output_keeps_the_level(reverb):
    waves = torch.randn(5, 20000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 0, 5).unsqueeze(1)
    wet = reverb.apply(waves, [{"room": room} for room in range(5)])
    torch.testing.assert_close(power(wet), power(waves), rtol=1e-4, atol=0)


def test_responses_peak_at_their_direct_path(reverb):
    for room in range(reverb.rooms):
        response, direct = reverb.response(room)
        assert abs(int(response.abs().argmax()) - direct) <= 1
        assert response.isfinite().all()


@pytest.mark.parametrize("rt60_s", [0.2, 0.6])
@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_rooms_decay_in_the_drawn_time(rt60_s, sample_rate):
    # Nearly cubes: Eyring's formula takes the sound field for diffuse, and along a long edge sound decays more slowly.
    cubic = {"edge_m": Range(3.5, 4.5), "height_m": Range(3.0, 3.5)}
    transform = Reverb(sample_rate, rooms=3, rt60_s=Range(rt60_s, rt60_s), damping=Range(0.0, 0.0), **cubic)
    responses = [transform.response(room) for room in range(3)]
    measured = [measure_rt60(response[direct:].numpy(), sample_rate, decay_db=30) for response, direct in responses]
    np.testing.assert_allclose(measured, rt60_s, rtol=0.35)


def test_damping_shortens_the_decay_of_high_frequencies():
    def decay_above_3_khz(damping: float) -> float:
        response, direct = Reverb(RATE, rooms=1, rt60_s=Range(0.6, 0.6), damping=Range(damping, damping)).response(0)
        high_pass = scipy.signal.butter(6, 3000, "highpass", fs=RATE, output="sos")
        return measure_rt60(scipy.signal.sosfilt(high_pass, response[direct:].numpy()), RATE, decay_db=30)

    assert decay_above_3_khz(0.5) < 0.8 * decay_above_3_khz(0.0)


def test_absorption_equals_sabine_where_walls_absorb_little():
    size = np.array([6.0, 5.0, 3.0])
    absorption, _ = inverse_sabine(3.0, size)
    # Eyring's -ln(1 - a) is Sabine's a to first order.
    assert eyring_absorption(size, np.array(3.0)) == pytest.approx(1 - np.exp(-absorption), rel=1e-3)
    assert (eyring_absorption(size, np.array([0.01, 0.1, 1.0])) <= 1).all()


def test_drawn_rooms_keep_to_their_ranges():
    transform = Reverb(RATE)
    for n in range(300):
        size, speaker, microphone, absorption = transform._draw_room(generator_for(0, "room", n))
        assert (size >= [3.0, 3.0, 2.4]).all()
        assert (size <= [12.0, 12.0, 5.0]).all()
        for place in (speaker, microphone):
            assert (place >= 0.5 - 1e-9).all()
            assert (place <= size - 0.5 + 1e-9).all()
        assert 0 < np.linalg.norm(microphone - speaker) <= 5.0 + 1e-9
        assert all(0 < share < 1 for share in absorption)
        assert absorption == sorted(absorption)


def test_a_room_depends_on_nothing_but_pool_seed_and_number(reverb):
    again = Reverb(RATE, rooms=9)
    again.response(4)
    np.random.seed(0)  # the global generator, which must not matter
    torch.testing.assert_close(again.response(2)[0], reverb.response(2)[0], atol=0, rtol=0)
    other, mine = Reverb(RATE, seed=1).response(2)[0], reverb.response(2)[0]
    assert not torch.equal(other[:1000], mine[:1000])


def test_prepare_simulates_the_pool_once(monkeypatch):
    transform = Reverb(RATE, rooms=2)
    transform.prepare()
    monkeypatch.setattr(Reverb, "_simulate", lambda *_: pytest.fail("simulated twice"))
    transform.prepare()
    transform.apply(torch.ones(2, 800), [{"room": 0}, {"room": 1}])


def test_rooms_that_drown_the_direct_path_are_an_error(monkeypatch):
    drowned = torch.zeros(500)
    drowned[[40, 300]] = torch.tensor([0.5, 1.0])
    monkeypatch.setattr(Reverb, "_simulate", lambda *_: (drowned, 40))
    with pytest.raises(InputError, match="lower distance_m or rt60_s"):
        Reverb(RATE).response(0)
