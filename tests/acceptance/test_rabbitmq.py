"""The same promises with RabbitMQ as the broker. `tests/acceptance/rabbitmq.sh` installs it and plays more."""

from collections.abc import Iterator

import pytest

import tests.chaos.faults  # noqa: F401  # registers them
from tests.chaos.fault import ALL
from tests.chaos.rabbitmq import NoRabbit, opened_rabbitmq
from tests.chaos.runner import play
from tests.chaos.shared_services import SharedServices, open_shared_services

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def ground() -> Iterator[SharedServices]:
    """A Postgres of our own, and a RabbitMQ in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            with opened_rabbitmq() as url:
                patch.setenv("POINTSMAN_TEST_BROKER_URL", url)
                with open_shared_services() as opened:
                    yield opened
        except NoRabbit as reason:
            pytest.skip(f"NOTHING WAS TESTED ON RABBITMQ: {reason}")


@pytest.mark.parametrize(
    "name",
    [
        "worker_kill_9",
        "each_message_three_times",
        pytest.param("poison_query_at_the_router", marks=pytest.mark.long),
    ],
)
def test_nothing_is_lost_on_rabbitmq(name: str, ground: SharedServices) -> None:
    verdict, flaws = play(ALL[name], seed=1, ground=ground)
    assert not flaws, f"{verdict.line()}\n" + "\n".join(flaws)
