"""The contract of every transform: time kept, draws replayed, rows independent, inputs and untouched rows unchanged."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.augment.base import Parameters, Range, Transform, match_level, power
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError

SAMPLES = 16000


def white(rows: int, seed: int = 0) -> torch.Tensor:
    """White noise (rows, SAMPLES): its correlation with itself is one sharp peak, where speech has a broad one."""
    return 0.1 * torch.randn(rows, SAMPLES, generator=torch.Generator().manual_seed(seed))


def draws(transform: Transform, count: int) -> list[Parameters | None]:
    return [transform.draw(generator_for(0, "test", n), SAMPLES) for n in range(count)]


def test_output_is_aligned_with_input(transform):
    if transform.name == "pitch_shift":
        pytest.skip("another pitch does not correlate with the old one: test_effects.py compares envelopes")
    waves = white(20)
    changed = transform.apply(waves, draws(transform, 20))
    spectrum = torch.fft.rfft(changed, n=2 * SAMPLES) * torch.fft.rfft(waves, n=2 * SAMPLES).conj()
    lags = torch.fft.irfft(spectrum, n=2 * SAMPLES).abs().argmax(dim=1)
    assert (torch.minimum(lags, 2 * SAMPLES - lags) <= 2).all()
    assert changed.shape == waves.shape


def test_same_generator_draws_and_gives_the_same(transform):
    waves = white(4)
    first, second = draws(transform, 4), draws(transform, 4)
    assert first == second
    assert torch.equal(transform.apply(waves, first), transform.apply(waves, second))
    if transform.name == "polarity":
        return  # nothing to draw
    assert draws(transform, 4) != [transform.draw(generator_for(1, "test", n), SAMPLES) for n in range(4)]


def test_parameters_replay_from_json(transform):
    waves, drawn = white(3), draws(transform, 3)
    assert torch.equal(transform.apply(waves, json.loads(json.dumps(drawn))), transform.apply(waves, drawn))


def test_what_is_loaded_before_gives_the_same(transform):
    waves, drawn = white(3), draws(transform, 3)
    loaded = [transform.load(parameters, SAMPLES) for parameters in drawn]
    assert torch.equal(transform.apply(waves, loaded), transform.apply(waves, drawn))


def test_a_length_that_is_no_round_number(transform):
    waves = white(1)[:, :12345]
    changed = transform.apply(waves, [transform.draw(generator_for(0, "odd"), 12345)])
    assert changed.shape == waves.shape
    assert changed.isfinite().all()
    assert changed.dtype == torch.float32


def test_a_row_does_not_depend_on_the_others(transform):
    waves, drawn = white(6), draws(transform, 6)
    together = transform.apply(waves, drawn)
    alone = torch.cat([transform.apply(waves[n : n + 1], [drawn[n]]) for n in range(6)])
    backwards = transform.apply(waves.flip(0), drawn[::-1]).flip(0)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(backwards, together, atol=1e-5, rtol=0)


def test_rows_without_parameters_and_the_input_stay_bit_equal(transform):
    waves = white(4)
    before = waves.clone()
    drawn = draws(transform, 4)
    changed = transform.apply(waves, [drawn[0], None, drawn[2], None])
    assert torch.equal(waves, before)
    assert torch.equal(changed[[1, 3]], waves[[1, 3]])
    assert not torch.isclose(changed[[0, 2]], waves[[0, 2]]).all(dim=1).any()
    assert changed.data_ptr() != waves.data_ptr()


def test_silence_stays_silence(transform):
    assert torch.equal(transform.apply(torch.zeros(2, SAMPLES), draws(transform, 2)), torch.zeros(2, SAMPLES))


def test_pickled_copy_gives_the_same(transform):
    copy = pickle.loads(pickle.dumps(transform))
    waves = white(3)
    assert torch.equal(copy.apply(waves, draws(copy, 3)), transform.apply(waves, draws(transform, 3)))


@given(low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6), seed=st.integers(0, 2**62))
def test_range_draws_inside_itself(low, width, seed):
    drawn = Range(low, low + width).draw(torch.Generator().manual_seed(seed))
    assert low <= drawn <= low + width


def test_range_draws_uniformly():
    drawn = torch.tensor([Range(2.0, 4.0).draw(generator_for(0, "range", n)) for n in range(4000)])
    # Four standard errors of a uniform distribution's mean and variance.
    assert drawn.mean() == pytest.approx(3.0, abs=4 * (1 / 3 / 4000) ** 0.5)
    assert drawn.var() == pytest.approx(1 / 3, abs=4 * (4 / 45 / 4000) ** 0.5)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_range_refuses_what_is_no_interval(bounds):
    with pytest.raises(InputError, match="expected a range"):
        Range(*bounds)


def test_match_level_gives_the_reference_rms():
    waves, reference = white(3), 5 * white(3, seed=1)
    torch.testing.assert_close(power(match_level(waves, reference)), power(reference))
