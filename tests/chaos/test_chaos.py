"""The quick part of the fault matrix: real processes, real signals. `make chaos` plays all of it."""

from collections.abc import Iterator

import pytest

import tests.chaos.faults  # noqa: F401  # registers them
from tests.chaos.fault import ALL, Skipped
from tests.chaos.runner import play
from tests.chaos.shared_services import SharedServices, open_shared_services

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def ground() -> Iterator[SharedServices]:
    """A Postgres that may be stopped."""
    with open_shared_services() as opened:
        yield opened


@pytest.mark.parametrize("name", [name for name, each in ALL.items() if each.quick])
def test_nothing_is_lost_and_nothing_answered_twice(name: str, ground: SharedServices) -> None:
    try:
        verdict, flaws = play(ALL[name], seed=1, ground=ground)  # by chance it is where somebody looks for trouble
    except Skipped as reason:
        pytest.skip(str(reason))
    print(verdict.line())
    assert not flaws, f"{verdict.line()}\n" + "\n".join(flaws)
