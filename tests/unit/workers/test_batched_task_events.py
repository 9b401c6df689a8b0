"""What workers tell Flower of messages: little, and in lists."""

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.events import EventReceiver
from celery.utils.timer2 import Timer

from tasks.publisher import shown
from workers.batched_task_events import BatchedTaskEvents


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("events", broker="memory://localhost/", set_as_current=False) as app:
        yield app


Tell = Callable[[Any, BatchedTaskEvents, Any], None]


def sent(app: Celery, tell: Tell) -> list[Any]:
    """The bodies of the messages with events that left while ``tell(dispatcher, step, consumer)`` ran."""
    bodies: list[Any] = []
    with app.connection() as connection:
        queue = EventReceiver(connection, app=app).queue(connection.default_channel)
        dispatcher = app.events.Dispatcher(connection, hostname="small@here", buffer_group=["task"])
        # As in a worker, where it is the next turn of Celery's loop.
        dispatcher.on_send_buffered = dispatcher.flush
        consumer = SimpleNamespace(event_dispatcher=dispatcher, timer=Timer())
        with connection.Consumer([queue], callbacks=[lambda body, _: bodies.append(body)], no_ack=True):
            tell(dispatcher, BatchedTaskEvents(consumer), consumer)
            with suppress(TimeoutError):
                while True:
                    connection.drain_events(timeout=0.05)
    return bodies


def test_events_of_tasks_leave_in_one_list_by_the_end_at_the_latest(app: Celery) -> None:
    def tell(dispatcher: Any, step: BatchedTaskEvents, consumer: Any) -> None:
        step.start(consumer)
        for number in range(60):
            dispatcher.send("task-received", uuid=f"u-{number}")
        step.stop(consumer)

    (events,) = sent(app, tell)
    assert [event["uuid"] for event in events] == [f"u-{number}" for number in range(60)]


def test_a_heartbeat_waits_for_no_list(app: Celery) -> None:
    def tell(dispatcher: Any, step: BatchedTaskEvents, consumer: Any) -> None:
        step.start(consumer)
        dispatcher.send("worker-heartbeat")

    (event,) = sent(app, tell)
    assert event["type"] == "worker-heartbeat"


def test_flower_reads_the_stage_from_what_is_shown_however_many_ids_there_are() -> None:
    told = shown("small", list(range(1_000_199, 999_999, -1)))
    assert ast.literal_eval(told) == {"stage": "small", "ids": "200 from 1000000 to 1000199"}
