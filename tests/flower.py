"""What Flower shows of the work of a stack."""

import json
import time
import urllib.request
from typing import Any

from celery import Celery

from routing.lifecycle import FALLBACK, INGEST, ROUTE
from workers.local_stack import LocalStack

TIERS = ("small", "medium", "large", "special", "embeddings")
ROLES = [(ROUTE, FALLBACK, INGEST), TIERS, ("feeder",)]
PATIENCE_S = 240


def fetch(stack: LocalStack, path: str) -> Any:
    """What its API says."""
    with urllib.request.urlopen(f"{stack.urls['flower']}/api/{path}", timeout=20) as reply:
        return json.load(reply)


def await_events(stack: LocalStack, producer: Celery) -> None:
    """Until Flower watches: events are off until somebody looks, and Flower asks for them."""
    deadline = time.monotonic() + PATIENCE_S
    while not fetch(stack, "tasks"):
        producer.send_task("route", kwargs={"stage": "route", "ids": []}, queue=ROUTE)
        assert time.monotonic() < deadline, "Flower sees nothing"
        time.sleep(0.5)


def check_names(stack: LocalStack, producer: Celery, *, secret: str) -> None:
    """Has a query answered that asks ``secret``, and holds Flower to names and ids of queues, workers and tasks."""
    producer.send_task("submit_queries", kwargs={"queries": [{"query": f"Say {secret}", "id": "q"}]}, queue=INGEST)
    deadline = time.monotonic() + PATIENCE_S
    names: set[str] = set()
    while not {"submit_queries", "route", "answer"} <= names:
        assert time.monotonic() < deadline, f"Flower shows {names}"
        time.sleep(0.2)
        shown = fetch(stack, "tasks?limit=1000").values()
        names = {task["name"] for task in shown if task["state"] == "SUCCESS"}
    assert secret not in json.dumps([*shown])
    # Of a task that was under way when events began Flower knows only the end.
    assert names <= {"route", "answer", "fallback", "submit_queries", None}
    tasks = [task for task in shown if task["name"] in ("route", "answer", "fallback")]
    for task in tasks:
        assert set(task["args"] + task["kwargs"]) <= set("0123456789[](){}<>,.'\": abcdefghijklmnopqrstuvwxyz_")
        assert "say" not in task["args"] + task["kwargs"]
        (queues,) = [role for role in ROLES if task["worker"].startswith(f"{'-'.join(role)}@")]
        # Each says by its first argument which stage it was for.
        assert any(queue in task["args"] + task["kwargs"] for queue in queues)
    workers = fetch(stack, "workers?refresh=1")
    assert {
        name.partition("@")[0]: tuple(queue["name"] for queue in shown["active_queues"])
        for name, shown in workers.items()
        if shown["active_queues"]
    } == {"-".join(role): role for role in ROLES[:2]}
