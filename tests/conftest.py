"""Settings that every test shares."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.exported", "tests.support.scenes"]

# Timing on a shared machine says nothing about the code under test, so no example has a deadline.
_common = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _common, max_examples=25)
settings.register_profile("ci", _common, max_examples=25, derandomize=True)
settings.register_profile("thorough", _common, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
