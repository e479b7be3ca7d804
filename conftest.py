"""What holds for every test: none fails because the machine is busy."""

from hypothesis import HealthCheck, settings

# hypothesis' own limits are 200 ms for an example, and a rate of examples: both are the machine's, not the code's.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")
