"""The suite's own settings."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=1)
@given(st.just(0.3))
def test_an_example_may_take_longer_than_a_busy_machine_makes_it_take(seconds):
    # hypothesis fails an example after 200 ms unless the suite's profile tells it otherwise.
    time.sleep(seconds)
