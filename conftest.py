"""What holds for every test: none fails because the machine is busy, none leaves anything in the user's cache."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# hypothesis' own limits are 200 ms for an example, and a rate of examples: both are the machine's, not the code's.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what tests put into the user's cache (simulated rooms) in a folder of their own; all but matplotlib's."""
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:  # the fonts that matplotlib looks for take it seconds
            patch.setenv("MPLCONFIGDIR", str(Path.home() / ".cache/matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
