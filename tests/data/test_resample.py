"""The one resampler: what is between the two Nyquist frequencies stays silent, prepared or read on the fly."""

import numpy as np
import pytest
import soundfile
import torch

from ccc_w2v.corpora.prompts.prepare import _resample as prepare
from ccc_w2v.data.audio import read_audio
from ccc_w2v.data.resample import resample

SECONDS = 2


def tone(hz, rate):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(SECONDS * rate) / rate)


def level_db(wave, hz, rate):
    """Return the level of a frequency in the middle of a wave in dB of full scale."""
    middle = np.asarray(wave, dtype=np.float64)[len(wave) // 4 : -len(wave) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.blackman(len(middle)))) / (0.42 * len(middle) / 2)
    return 20 * np.log10(spectrum[round(hz / rate * len(middle))])


@pytest.mark.parametrize("how", ["on the fly", "prepared"])
def test_a_tone_of_3_5_khz_in_a_file_of_8_khz_leaves_no_image(how, tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(3500, 8000), 8000, subtype="FLOAT")
    if how == "on the fly":
        wave = read_audio(tmp_path / "tone.wav", 16000, resample=True)
    else:
        prepare(tmp_path / "tone.wav", tmp_path / "tone.flac")
        wave = read_audio(tmp_path / "tone.flac", 16000)
    assert level_db(wave, 3500, 16000) == pytest.approx(-6, abs=0.1)
    assert level_db(wave, 4500, 16000) < -80


def test_downwards_nothing_is_folded_back():
    wave = resample(torch.from_numpy(tone(4500, 16000)).float(), 16000, 8000)
    assert level_db(wave, 3500, 8000) < -80
    wave = resample(torch.from_numpy(tone(1000, 44100)).float(), 44100, 16000)
    assert level_db(wave, 1000, 16000) == pytest.approx(-6, abs=0.1)
