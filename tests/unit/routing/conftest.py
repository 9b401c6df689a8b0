"""Fixtures of the routing tests."""

import pytest
from hypothesis import settings

from routing.fleet import Fleet
from tests.fleets import small_fleet

# The machines that run these are shared and slow at times: no example has a deadline of its own.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The small fleet, with gate and classifier."""
    return small_fleet()
