import numpy as np
import pytest
import soundfile

from ccc_w2v.corpora.own.pauses import FRAME_SECONDS, cut_points, parts

RATE = 8000


def wave(*lengths: float) -> np.ndarray:
    """Noise of these seconds, with half a second of near silence behind each."""
    draw = np.random.default_rng(0)
    parts = [(0.1 * draw.standard_normal(round(seconds * RATE)), np.full(RATE // 2, 1e-4)) for seconds in lengths]
    return np.concatenate([part for pair in parts for part in pair])


def test_cuts_are_within_pauses(tmp_path):
    soundfile.write(tmp_path / "a.wav", wave(4, 3, 5, 2), RATE)
    with soundfile.SoundFile(tmp_path / "a.wav") as audio:
        edges = list(parts(audio, 6.0))
    cuts = [end for _, end in edges[:-1]]
    pauses = [(4.0, 4.5), (7.5, 8.0), (13.0, 13.5)]
    assert cuts
    assert all(any(start <= cut <= end for start, end in pauses) for cut in cuts)
    assert edges[0][0] == 0
    assert edges[-1][1] == pytest.approx(16.0)
    assert all(end == start for (_, end), (start, _) in zip(edges[:-1], edges[1:], strict=True))


@pytest.mark.parametrize("seconds", [0.02, 1.0, 5.0, 5.1, 60.0])
def test_no_part_is_longer_than_allowed_where_there_is_no_pause(seconds):
    level_T = np.ones(round(seconds / FRAME_SECONDS))
    edges = [0, *cut_points(level_T, 5.0), len(level_T)]
    lengths = np.diff(edges) * FRAME_SECONDS
    assert lengths.max() <= 5.0
    assert len(edges) == 2 or lengths[:-1].min() >= 2.0
