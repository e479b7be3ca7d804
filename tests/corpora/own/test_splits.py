import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.corpora.own.splits import split_by_speaker
from ccc_w2v.errors import InputError

SHARES = {"dev": 0.1, "test": 0.1}
SECONDS = st.dictionaries(st.text("abcdef", min_size=1), st.floats(1, 1000), min_size=3, max_size=40)


@given(seconds=SECONDS, seed=st.integers(0, 3))
def test_every_speaker_has_one_split_and_every_split_a_speaker(seconds, seed):
    split_of = split_by_speaker(seconds, SHARES, seed)
    assert set(split_of) == set(seconds)
    assert set(split_of.values()) == {"train", "dev", "test"}
    assert split_by_speaker(dict(reversed(seconds.items())), SHARES, seed) == split_of


def test_shares_are_those_of_the_audio():
    seconds = {f"speaker{index}": 10.0 + index % 3 for index in range(100)}
    split_of = split_by_speaker(seconds, {"dev": 0.2, "test": 0.1}, 0)
    for split, share in (("dev", 0.2), ("test", 0.1)):
        seconds_of_split = sum(seconds[name] for name in seconds if split_of[name] == split)
        assert seconds_of_split / sum(seconds.values()) == pytest.approx(share, abs=0.02)
    assert split_by_speaker(seconds, {"dev": 0.2, "test": 0.1}, 1) != split_of


def test_the_largest_speaker_trains():
    assert split_by_speaker({"a": 1000.0, "b": 10.0, "c": 10.0}, SHARES, 0)["a"] == "train"


def test_no_share_no_split():
    assert split_by_speaker({"a": 1.0}, {"dev": 0.0, "test": 0.0}, 0) == {"a": "train"}


def test_too_few_speakers():
    with pytest.raises(InputError, match="2 speakers for train, dev, test"):
        split_by_speaker({"a": 1.0, "b": 1.0}, SHARES, 0)
