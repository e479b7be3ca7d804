"""What holds for every test, and one test set and one checkpoint for all decoding tests.

No test fails because the machine is busy, and none leaves anything in the user's cache.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# hypothesis' own limits are 200 ms for an example, and a rate of examples: both are the machine's, not the code's.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")

# What a shell starts in the background ignores Ctrl-C, and so would the trainings that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests put into the user's cache (simulated rooms) in a folder of their own; all but matplotlib's."""
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:  # the fonts that matplotlib looks for take it seconds
            patch.setenv("MPLCONFIGDIR", str(Path.home() / ".cache/matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def test_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_ctc import write_test_set

    return write_test_set(tmp_path_factory.mktemp("testset"))


@pytest.fixture(scope="session")
def checkpoint(test_set: Path) -> Path:
    from ccc_w2v.benchmark.random_ctc import trainer_state
    from tests.tiny_ctc import build_ctc, save

    # Group norm over time, as in the base models: the case in which padding would change the result.
    return save(trainer_state(*build_ctc(test_set.parent, extractor_mode="default")), test_set.parent / "ctc.pt")
