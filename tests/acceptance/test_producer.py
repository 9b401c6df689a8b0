"""A program that knows nothing but Celery hands in a batch, and Flower shows the work and not the words."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import Row, text

from db.engine import make_engine
from routing.fleet import Fleet
from settings import Settings
from tests import flower
from workers.local_stack import LocalStack

SECRET = "zebra-crossing-canary"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, shipped_fleet: Fleet) -> Iterator[LocalStack]:
    """Everything, with one worker for the tiers and one for the other stages."""
    home = tmp_path_factory.mktemp("producer") / "home"
    settings = Settings.load({"POINTSMAN_HOME": str(home)})
    with LocalStack(settings, shipped_fleet, roles=flower.ROLES, flower=True) as running:
        yield running


@pytest.fixture(scope="module")
def watched(stack: LocalStack, producer: Celery) -> LocalStack:
    """The stack once Flower watches."""
    flower.await_events(stack, producer)
    return stack


@pytest.fixture(scope="module")
def producer(stack: LocalStack) -> Celery:
    """What any other program would make: no module of ours is needed for it."""
    app = Celery(broker=stack.settings.broker_url)
    app.conf.broker_transport_options = {"global_keyprefix": stack.settings.key_prefix}
    return app


def rows(stack: LocalStack, sql: str) -> list[Row[Any]]:
    async def ask() -> list[Row[Any]]:
        engine = make_engine(stack.settings.database_url)
        try:
            async with engine.connect() as connection:
                return list((await connection.execute(text(sql))).all())
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def test_a_bare_celery_producer_gets_its_batch_answered_once(stack: LocalStack, producer: Celery) -> None:
    queries = [{"query": f"Hi! {SECRET} {n}", "id": f"q{n}"} for n in range(5)]
    queries.append({**queries[0], "id": "the same"})
    asked = {"queries": queries, "budget_usd": 2, "budget_policy": "degrade", "priority": 7, "dedup": True}
    sent = producer.send_task("submit_queries", kwargs=asked, queue="ingest")
    producer.send_task("submit_queries", kwargs=asked, queue="ingest", task_id=sent.id)
    deadline = time.monotonic() + 240
    while not rows(stack, "SELECT 1 FROM batches WHERE ended_at IS NOT NULL"):
        assert time.monotonic() < deadline, "the batch did not end"
        time.sleep(0.1)
    assert [(row.state, row.n) for row in rows(stack, "SELECT state, count(*) AS n FROM queries GROUP BY state")] == [
        ("done", 6)
    ]
    assert rows(stack, "SELECT count(DISTINCT query_id) AS n FROM calls WHERE query_id IS NOT NULL")[0].n == 5
    (batch,) = rows(
        stack,
        "SELECT b.source, b.budget_policy, b.priority, b.plan, g.cap_usd, g.reserved_usd"
        " FROM batches AS b JOIN budgets AS g ON g.batch_id = b.id",
    )
    assert (batch.source, batch.budget_policy, batch.cap_usd, batch.reserved_usd) == ("celery", "degrade", 2, 0)
    assert (batch.priority, batch.plan["total"]) == (7, 5)


def test_lines_for_embeddings_are_answered_by_their_tier(stack: LocalStack, producer: Celery) -> None:
    body = {"model": "auto", "input": "a text", "dimensions": 8}
    lines = [{"custom_id": f"e{n}", "method": "POST", "url": "/v1/embeddings", "body": body} for n in range(2)]
    producer.send_task("submit_queries", kwargs={"queries": lines}, queue="ingest")
    deadline = time.monotonic() + 240
    answered = "SELECT a.model, a.response FROM answers AS a WHERE a.tier = 'embeddings'"
    while len(found := rows(stack, answered)) < 2:
        assert time.monotonic() < deadline, "the lines were not answered"
        time.sleep(0.1)
    assert {row.model for row in found} == {"text-embedding-3-small"}
    assert all(len(row.response["data"][0]["embedding"]) == 8 for row in found)
    assert len(rows(stack, "SELECT 1 FROM calls WHERE purpose = 'embed'")) == 1


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"queries": [{"id": "x"}]}, "line 1: query: the line has neither query nor body"),
        ({"queries": [{"query": "Hi!"}], "budget": 5}, "budget: submit_queries takes no such argument"),
        ({}, "queries: it must be a list of lines"),
    ],
)
def test_a_bad_message_takes_nothing_and_flower_and_the_log_say_why(
    watched: LocalStack, producer: Celery, asked: dict[str, Any], why: str
) -> None:
    stack = watched
    before = rows(stack, "SELECT count(*) FROM batches")
    sent = producer.send_task("submit_queries", kwargs=asked, queue="ingest")
    deadline = time.monotonic() + 240
    while (told := flower.fetch(stack, "tasks").get(sent.id, {})).get("state") != "FAILURE":
        assert time.monotonic() < deadline, f"Flower shows {told}"
        time.sleep(0.2)
    assert why in told["exception"]
    assert rows(stack, "SELECT count(*) FROM batches") == before
    logs = [log.read_text() for log in (Path(stack.settings.home) / "logs").glob("*.log")]
    (workers,) = [log for log in logs if sent.id in log]
    (line,) = [line for line in workers.splitlines() if sent.id in line]
    assert "submission_refused" in line
    assert why in line
    assert "Traceback" not in workers


def test_flower_shows_queues_workers_and_tasks_by_name_and_no_prompt(watched: LocalStack, producer: Celery) -> None:
    flower.check_names(watched, producer, secret=SECRET)
