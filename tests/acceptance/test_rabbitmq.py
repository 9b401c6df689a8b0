"""The same promises with RabbitMQ as the broker. `tests/acceptance/rabbitmq.sh` installs it and plays more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu import Queue

import tests.chaos.faults  # noqa: F401  # registers them
from routing.fleet import Fleet
from routing.lifecycle import INGEST, ROUTE
from settings import Settings
from tests import flower
from tests.chaos.fault import ALL
from tests.chaos.rabbitmq import NoRabbit, opened_rabbitmq
from tests.chaos.runner import play
from tests.chaos.shared_services import SharedServices, open_shared_services
from workers.local_stack import LocalStack

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    try:
        with opened_rabbitmq() as url:
            yield url
    except NoRabbit as reason:
        pytest.skip(f"NOTHING WAS TESTED ON RABBITMQ: {reason}")


@pytest.fixture(scope="module")
def ground(broker_url: str) -> Iterator[SharedServices]:
    """A Postgres of our own, and the RabbitMQ in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTSMAN_TEST_BROKER_URL", broker_url)
        with open_shared_services() as opened:
            yield opened


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


def test_flower_shows_queues_workers_and_tasks_by_name_and_no_prompt(
    ground: SharedServices, broker_url: str, shipped_fleet: Fleet, tmp_path: Path
) -> None:
    environ = {"POINTSMAN_HOME": str(tmp_path), "DATABASE_URL": ground.clone(), "BROKER_URL": broker_url}
    with (
        LocalStack(Settings.load(environ), shipped_fleet, roles=flower.ROLES, flower=True) as stack,
        Celery(broker=broker_url) as producer,
    ):
        producer.conf.task_queues = [
            Queue(name, queue_arguments={"x-queue-type": "quorum"}) for name in (ROUTE, INGEST)
        ]
        flower.await_events(stack, producer)
        flower.check_names(stack, producer, secret="zebra-crossing-canary")
