"""Telephone: G.711 against libsndfile's, the band, the 8 kHz, lost packets."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.augment.base import Range, match_level
from ccc_w2v.augment.filtering import band_pass
from ccc_w2v.augment.telephone import Telephone, g711
from ccc_w2v.data.randomness import generator_for
from ccc_w2v.errors import InputError
from tests.fake_corpora import speech_like

from .conftest import RATE


@pytest.mark.parametrize(("law", "subtype"), [("mu", "ULAW"), ("a", "ALAW")])
def test_g711_decodes_to_libsndfiles_values_and_codes_no_worse(tmp_path, law, subtype):
    wave = np.random.default_rng(0).uniform(-1, 1, 100_000)
    soundfile.write(tmp_path / "coded.wav", wave, 8000, subtype=subtype)
    theirs, _ = soundfile.read(tmp_path / "coded.wav")
    ours = g711(torch.from_numpy(wave), law).numpy()
    np.testing.assert_array_equal(np.unique(ours), np.unique(theirs))
    # libsndfile cuts a sample to 14 or 13 bits before it looks for the nearest value.
    assert np.mean(np.abs(ours - wave)) <= np.mean(np.abs(theirs - wave))
    assert np.mean(ours == theirs) > 0.9


def call(samples=32000, seed=0, **settings):
    """Return white noise, what one call makes of it, and the call's parameters."""
    transform = Telephone(RATE, **settings)
    wave = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))
    drawn = transform.draw(generator_for(seed, "call"), samples)
    return wave[0], transform.apply(wave, [drawn])[0], drawn


@pytest.mark.parametrize("law", ["mu", "a"])
def test_only_the_telephone_band_is_left(law):
    _, heard, drawn = call(law=law)
    power = torch.fft.rfft(heard).abs().square()
    hertz = torch.fft.rfftfreq(len(heard), 1 / RATE)
    inside = power[(hertz > 400) & (hertz < 3300)].mean()
    assert drawn["law"] == law
    # The codec's own noise lies at about -38 dB, spread over 4 kHz; above 4.2 kHz there is only what resampling leaves.
    assert power[hertz < 200].mean() < 1e-3 * inside
    assert power[(hertz > 3550) & (hertz < 3900)].mean() < 1e-3 * inside
    assert power[hertz > 4300].mean() < 1e-5 * inside


def test_speech_passes_with_the_codecs_noise_and_no_more():
    wave = torch.from_numpy(speech_like(RATE, 0))[None]
    transform = Telephone(RATE, level_dbov=Range(-20.0, -20.0))
    coded = transform.apply(wave, [transform.draw(generator_for(0, "call"), RATE)])
    clean = match_level(band_pass(wave.double(), [(300, 3400)], RATE), wave.double())
    ratio = 10 * torch.log10(clean.square().mean() / (coded - clean).square().mean())
    # G.711 is specified for a signal-to-distortion ratio of 33 dB and more.
    assert ratio > 30


def test_a_noisy_line_has_the_drawn_ratio():
    silent_line, noisy = (call(line_noise_p=p, line_snr_db=Range(10.0, 10.0), law="mu") for p in (0.0, 1.0))
    assert silent_line[2]["line_snr_db"] is None
    assert noisy[2]["line_snr_db"] == 10.0
    share = torch.dot(silent_line[1], noisy[1]) / silent_line[1].norm() / noisy[1].norm()
    # Correlation of a wave with itself plus independent noise at 10 dB.
    assert share == pytest.approx((1 / 1.1) ** 0.5, abs=0.01)


def test_lost_packets_are_silent_and_as_many_as_asked_for():
    _, heard, drawn = call(packet_loss_p=1.0, lost_share=Range(0.2, 0.2))
    assert drawn["lost"]
    assert all(length == 160 and start % 160 == 0 for start, length in drawn["lost"])
    for start, length in drawn["lost"]:
        # The filters of the resampling reach 64 samples into a gap.
        assert heard[2 * start + 66 : 2 * (start + length) - 66].abs().max() < 0.02 * heard.std()
    transform = Telephone(RATE, packet_loss_p=1.0, lost_share=Range(0.1, 0.1), burst=3.0)
    calls = [{start for start, _ in transform.draw(generator_for(0, "loss", n), 16000 * 20)["lost"]} for n in range(60)]
    assert sum(map(len, calls)) / 60_000 == pytest.approx(0.1, abs=0.012)
    bursts = sum(start - 160 not in call_starts for call_starts in calls for start in call_starts)
    assert sum(map(len, calls)) / bursts == pytest.approx(3.0, abs=0.3)


def test_a_probability_changes_no_other_draw():
    never, always = (
        Telephone(RATE, line_noise_p=p, packet_loss_p=p).draw(generator_for(0, "x"), 16000) for p in (0.0, 1.0)
    )
    assert never["lost"] == []
    assert never["line_snr_db"] is None
    assert {key: never[key] for key in ("law", "level_dbov", "noise_seed")} == {
        key: always[key] for key in ("law", "level_dbov", "noise_seed")
    }


def test_a_rate_that_is_no_multiple_of_8_khz_is_refused():
    with pytest.raises(InputError, match="a sample rate of 22050 Hz; the telephone needs a multiple of 8000"):
        Telephone(22050)


def test_at_8_khz_nothing_is_resampled():
    transform = Telephone(8000)
    wave = 0.1 * torch.randn(1, 8001, generator=torch.Generator().manual_seed(0))
    assert transform.apply(wave, [transform.draw(generator_for(0, "x"), 8001)]).shape == (1, 8001)
