"""Fixtures of the routing tests."""

import pytest

from routing.fleet import Fleet
from tests.fleets import small_fleet


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The small fleet, with gate and classifier."""
    return small_fleet()
