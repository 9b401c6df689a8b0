"""What Flower shows of a run: each stage's queue and worker by name, tasks by name, and ids only; on both brokers."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.engine import make_engine
from routing.fleet import Fleet
from settings import Settings
from tests.chaos.rabbitmq import NoRabbit, opened_rabbitmq
from tests.databases import Databases
from workers.local_stack import LocalStack

SECRET = "the-word-that-nobody-may-see"
COUNT = 60


def until(come_true: Callable[[], Any], *, else_tell: Callable[[], Any] = lambda: "") -> Any:
    deadline = time.monotonic() + 240
    while not (found := come_true()):
        assert time.monotonic() < deadline, f"it did not come true: {else_tell()}"
        time.sleep(1)
    return found


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def stack(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    databases: Databases,
    template_database: str,
    shipped_fleet: Fleet,
) -> Iterator[LocalStack]:
    """Workers for two stages, the feeder and Flower, on that broker."""
    name = databases.clone(template_database)
    environ = {"POINTSMAN_HOME": str(tmp_path_factory.mktemp("flower")), "DATABASE_URL": databases.of(name)}
    roles = [("route", "fallback", "ingest"), ("small",), ("medium",), ("large",), ("special",), ("feeder",)]

    def opened(settings: Settings) -> Iterator[LocalStack]:
        with LocalStack(settings, shipped_fleet, roles=roles, flower=True) as running:
            yield running

    try:
        if request.param == "redis":
            yield from opened(Settings.load(environ))
            return
        try:
            with opened_rabbitmq() as url:
                yield from opened(Settings.load(environ | {"BROKER_URL": url}))
        except NoRabbit as reason:
            pytest.skip(f"FLOWER WAS NOT TRIED ON RABBITMQ: {reason}")
    finally:
        databases.drop(name)


def fetch(stack: LocalStack, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"{stack.urls['flower']}{path}", timeout=20) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        return {"error": error.code}


def workers(stack: LocalStack) -> dict[str, Any]:
    found = fetch(stack, "/api/workers?refresh=1")
    wanted = {"route-fallback-ingest", "small", "medium", "large", "special"}
    return found if {name.partition("@")[0] for name in found} >= wanted else {}


def submit(stack: LocalStack) -> None:
    async def work() -> None:
        engine = make_engine(stack.settings.database_url)
        body = json.dumps({"messages": [{"role": "user", "content": f"Say hello, {SECRET}!"}]}).encode()
        async with open_batch_writer(engine, BatchSpec(source="test"), stack.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write([(n + 1, f"q-{n}", body, None) for n in range(COUNT)])
        await engine.dispose()

    asyncio.run(work())


def test_a_run_shows_stages_and_workers_by_name_and_ids_only(stack: LocalStack, tmp_path: Path) -> None:
    known = until(lambda: workers(stack))
    queues = {
        name.partition("@")[0]: [queue["name"] for queue in told["active_queues"]] for name, told in known.items()
    }
    assert queues["small"] == ["small"]
    assert queues["route-fallback-ingest"] == ["route", "fallback", "ingest"]

    def ended() -> dict[str, Any]:
        submit(stack)  # again and again: Flower has workers send events some seconds after its start
        tasks = fetch(stack, "/api/tasks?limit=1000")
        names = {task["name"] for task in tasks.values() if task["state"] == "SUCCESS"}
        return tasks if names >= {"route", "answer"} else {}

    # Of a task that was under way when events began Flower knows only the end.
    seen = until(ended, else_tell=lambda: fetch(stack, "/api/tasks?limit=5"))
    tasks = {id_: task for id_, task in seen.items() if task["name"] is not None}
    assert SECRET not in json.dumps(seen)
    assert {task["name"] for task in tasks.values()} <= {"route", "answer", "fallback", "submit_queries"}
    for task in tasks.values():
        assert set(task["args"] + task["kwargs"]) <= set("0123456789[](){}<>,.'\": abcdefghijklmnopqrstuvwxyz_")
        assert "hello" not in task["args"] + task["kwargs"]
    answers = [task for task in tasks.values() if task["name"] == "answer"]
    assert {task["worker"].partition("@")[0] for task in answers} <= {"small", "medium", "large", "special"}
    # Each says by its first argument which tier it was for.
    assert all(task["worker"].partition("@")[0] in task["args"] + task["kwargs"] for task in answers)
