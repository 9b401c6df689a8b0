"""A client that can write to the broker: it can delay queries, and not stop the workers."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from routing.lifecycle import INGEST
from settings import ROOT, Settings
from workers.process_setup import READY_FILE

PATIENCE_S = 120


@pytest.fixture
def worker(tmp_path: Path, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of one stage that is ready."""
    ready = tmp_path / "ready"
    environ = {**os.environ, **settings.child_environ(), READY_FILE: str(ready)}
    environ["POINTSMAN_SIMULATOR_URL"] = "http://127.0.0.1:1"
    process = subprocess.Popen([sys.executable, "-m", "workers", INGEST], cwd=ROOT, env=environ)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline, "not ready"
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def message(content: str = "W1tdLHt9LHt9XQ==", *, headers: Any = None, **given: Any) -> dict[str, Any]:
    """A message of the task `submit_queries` as kombu writes it. ``content`` is base64, by default of no arguments."""
    about = {"lang": "py", "task": "submit_queries", "id": "1", "root_id": "1", "parent_id": None, "retries": 0}
    info = {"exchange": "", "routing_key": INGEST}
    return {
        "body": content,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**about, "timelimit": [None, None], "eta": None, "expires": None, **(headers or {})},
        "properties": {"body_encoding": "base64", "delivery_tag": "1", "delivery_info": info, "priority": 0},
        **given,
    }


NO_MESSAGES = ["no JSON", b"\xff\xfe", "null", "5", "[]", "{}", "[" * 100_000, '"text"']
ODD = [
    message("not base64!"),
    message(headers={"expires": {"a": 1}}),
    message(headers={"eta": "never"}),
    message(headers={"timelimit": 5}),
    message(headers={"retries": "x", "id": {}, "root_id": []}),
    message(headers={"compression": "application/x-gzip"}),
    message(headers={"compression": "nothing"}),
    message(headers={"task": ["a"]}),
    message(headers={"task": "os.system"}),
    message(**{"content-type": "application/x-python-serialize", "content-encoding": "binary"}),
    message(**{"content-encoding": "nothing"}),
    message(base64.b64encode(b"[1, 2, 3]").decode()),
    message(base64.b64encode(b"[" * 100_000).decode()),
    {**message(), "headers": {"task": "submit_queries"}},
    {**message(), "headers": None},
    {**message(), "headers": [1]},
    {**message(), "properties": {}},
    {**message(), "properties": {"delivery_tag": {}, "delivery_info": {}}},
]


def answers(producer: Celery, process: subprocess.Popen[bytes]) -> bool:
    """Whether the worker answers a ping. It must not have ended."""
    assert process.poll() is None, "the worker has ended"
    return bool(producer.control.ping(timeout=1.0))


def test_no_message_ends_a_worker_or_comes_back(
    redis_url: str, settings: Settings, worker: subprocess.Popen[bytes]
) -> None:
    producer = Celery(broker=settings.broker_url)
    producer.conf.broker_transport_options = {"global_keyprefix": settings.key_prefix}
    queue = f"{settings.key_prefix}{INGEST}"
    with Redis.from_url(redis_url) as redis:
        for raw in [*NO_MESSAGES, *map(json.dumps, ODD)]:
            redis.lpush(queue, raw)
            redis.publish(f"{settings.key_prefix}/0.celery.pidbox", raw)
        deadline = time.monotonic() + PATIENCE_S
        while redis.llen(queue) or redis.hlen(f"{settings.key_prefix}unacked") or not answers(producer, worker):
            assert worker.poll() is None, "the worker has ended"
            assert time.monotonic() < deadline, redis.hgetall(f"{settings.key_prefix}unacked")
            time.sleep(0.2)


def test_no_command_to_all_workers_stops_them(
    redis_url: str, settings: Settings, worker: subprocess.Popen[bytes]
) -> None:
    producer = Celery(broker=settings.broker_url)
    producer.conf.broker_transport_options = {"global_keyprefix": settings.key_prefix}
    for command, given in (
        ("cancel_consumer", {"queue": INGEST}),
        ("pool_shrink", {"n": 100}),
        ("shutdown", {}),
        ("terminate", {"task_id": "1", "signal": "KILL"}),
    ):
        producer.control.broadcast(command, arguments=given)
    deadline = time.monotonic() + PATIENCE_S
    while not answers(producer, worker):
        assert time.monotonic() < deadline
    (queues,) = producer.control.inspect(timeout=5.0).active_queues().values()
    assert [queue["name"] for queue in queues] == [INGEST]
