import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccc_w2v.corpora.long.segments import PAD_SECONDS, SegmentLimits, segments
from ccc_w2v.corpora.long.speech import loud_regions
from ccc_w2v.corpora.own.pauses import FRAME_SECONDS, levels_of

TOLERANCE = 1e-6


def speech_of(gaps_and_lengths):
    """Return regions from (pause before, length) pairs in seconds, and the length of the recording."""
    regions, time = [], 0.0
    for gap, length in gaps_and_lengths:
        regions.append((time + gap, time + gap + length))
        time = regions[-1][1]
    return regions, time + 0.5


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0.3, 6), st.floats(0.25, 80)), min_size=1, max_size=30),
    st.floats(0.3, 3),
    st.floats(4, 40),
)
def test_segments_are_ordered_within_limits_and_hold_all_speech_that_is_long_enough(pairs, shortest, longest):
    speech, seconds = speech_of(pairs)
    level_T = np.ones(round(seconds / FRAME_SECONDS))
    limits = SegmentLimits(shortest=shortest, longest=longest)
    made = segments(speech, level_T, seconds, limits)
    edges = [edge for segment in made for edge in segment]
    assert all(after - before >= -TOLERANCE for before, after in zip(edges[:-1], edges[1:], strict=True))
    assert not edges or (edges[0] >= 0 and edges[-1] <= seconds)
    assert all(shortest <= end - start <= longest + TOLERANCE for start, end in made)
    for start, end in speech:
        if end - start < shortest:
            continue
        kept = sum(max(0.0, min(end, last) - max(start, first)) for first, last in made)
        # What a cut leaves over at its end may be too short for a segment.
        assert kept > end - start - shortest - TOLERANCE


def test_short_pauses_stay_inside_long_ones_end_a_segment():
    level_T = np.ones(2000)
    made = segments([(1.0, 3.0), (3.5, 6.0), (10.0, 12.0)], level_T, 40.0, SegmentLimits(silence=2.0))
    assert made == [
        (pytest.approx(1 - PAD_SECONDS), pytest.approx(6 + PAD_SECONDS)),
        (pytest.approx(10 - PAD_SECONDS), pytest.approx(12 + PAD_SECONDS)),
    ]


def test_speech_without_a_pause_is_cut_where_it_is_quietest():
    level_T = np.ones(2500)
    level_T[1000:1015] = 1e-3  # at 20 s
    first, second = segments([(0.0, 50.0)], level_T, 50.0, SegmentLimits(longest=30.0))
    assert 20.0 <= first[1] <= 20.3
    assert first[1] == second[0]


def test_energy_tells_loud_from_quiet_and_keeps_short_pauses():
    level_T = np.full(1000, 1e-7)
    level_T[100:300] = level_T[310:500] = 1e-2
    level_T[700:705] = 1e-2  # 0.1 s: a click
    assert loud_regions(level_T, 0.3) == [(2.0, 10.0)]
    assert loud_regions(level_T, 0.1) == [(2.0, 6.0), (6.2, 10.0)]
    assert loud_regions(np.zeros(100), 0.3) == []


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100])
def test_levels_are_where_their_times_are(rate):
    wave = np.zeros((50 * rate, 1), np.float32)
    wave[round(40.0 * rate) : round(40.02 * rate)] = 1
    level_T = levels_of(wave, rate)
    assert len(level_T) == 2500
    assert int(level_T.argmax()) == 2000
    assert level_T.sum() == pytest.approx(1, abs=0.01)
