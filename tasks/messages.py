"""The Celery tasks: what a message of each queue does. A message holds ids, never a prompt."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import structlog
from celery import Task

from db.deposit import MOST_USD, Order
from routing.fleet import BudgetPolicy
from settings import Settings
from tasks.answer import answer
from tasks.app import app
from tasks.fallback import fall_back
from tasks.intake import read_objects
from tasks.line import whole
from tasks.plan import SERVED_BYTES, Planner
from tasks.publish import by_stage, publish
from tasks.route import route
from tasks.sample import Sample
from tasks.station import Loop, Station
from tasks.submit import submit_when_possible
from tasks.tracing import read_traceparent

log = structlog.get_logger()

Moved = Mapping[int, tuple[str, str]]


class Post:
    """Where a worker process keeps its loop and station; `workers` fills it before the first message."""

    settings: Settings
    loop: Loop
    station: Station


@app.task(name="route", bind=True)
def route_task(self: Task, stage: str, ids: Sequence[int]) -> None:
    """Finds the tier of each query. A message that a worker gave back, or was lost with, is treated with care."""
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    _work(stage, ids, route(ids, Post.station, redelivered=redelivered))


@app.task(name="answer")
def answer_task(stage: str, ids: Sequence[int]) -> None:
    """Has each query answered by a model of tier ``stage``."""
    _work(stage, ids, answer(stage, ids, Post.station))


@app.task(name="fallback")
def fallback_task(stage: str, ids: Sequence[int]) -> None:
    """Decides what becomes of each query whose answer was rejected."""
    _work(stage, ids, fall_back(ids, Post.station))


@app.task(name="submit_queries", bind=True, Request="tasks.discreet:DiscreetRequest")
def submit_queries(
    self: Task,
    queries: Sequence[Mapping[str, Any]],
    idempotency_key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tenant: str = "default",
    budget_usd: float | None = None,
    budget_policy: str | None = None,
    priority: int = 0,
) -> None:
    """A batch from a producer that only speaks Celery. ``queries`` are lines as in a file.

    ``budget_usd`` caps the batch; ``budget_policy`` is hold, fail or degrade. Without either the fleet's holds.
    ``priority`` is between -100 and 100; higher goes first. A plan is stored with the batch.
    Without an ``idempotency_key`` the message's own id serves: delivered twice, it is one batch.
    Raises BadInput, which Flower shows, where a line or an argument is invalid; nothing is taken then.
    """
    station = Post.station
    cap_usd, policy = read_budget(budget_usd, budget_policy)
    settings = Post.settings
    submitted = Post.loop.run(
        submit_when_possible(
            lambda: read_objects(queries, fleet=station.fleet),
            engine=station.engine,
            fleet=station.fleet,
            order=Order(
                source="celery",
                tenant=tenant,
                idempotency_key=idempotency_key or f"celery:{self.request.id}",
                metadata=metadata or {},
                priority=read_priority(priority),
                cap_usd=cap_usd,
                budget_policy=policy,
                traceparent=read_traceparent((self.request.headers or {}).get("traceparent")),
            ),
            planner=lambda: Planner(
                settings,
                station.fleet,
                station.engine,
                cap_usd=cap_usd,
                policy=policy,
                sample=Sample(most_bytes=SERVED_BYTES),
            ),
        )
    )
    log.info("submitted", batch=submitted.handle, queries=submitted.total, duplicate=submitted.duplicate)


def read_budget(usd: object, policy: object) -> tuple[float | None, BudgetPolicy | None]:
    """A producer's words for a cap and its policy. Raises BadInput."""
    if usd is not None and (isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd <= MOST_USD):
        raise whole(
            "budget_usd",
            f"it must be a number of dollars, 0 or more, at most {MOST_USD:.0f}",
            "Correct it, or leave it out",
        )
    known = [each.value for each in BudgetPolicy]
    if policy is not None and policy not in known:
        raise whole("budget_policy", "it is not known", f"Give one of {', '.join(known)}, or leave it out")
    return (None if usd is None else float(usd)), (None if policy is None else BudgetPolicy(str(policy)))


def read_priority(priority: object) -> int:
    """A producer's word for what goes first. Raises BadInput."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not -100 <= priority <= 100:
        raise whole("priority", "it must be a whole number between -100 and 100", "Correct it, or leave it out")
    return priority


def _work(stage: str, ids: Sequence[int], work: Coroutine[Any, Any, Moved]) -> None:
    """Does the work of one message; publishes what it moved into the broker's share of the next stage."""
    moved = Post.loop.run(work)
    for next_stage, queued in by_stage(moved).items():
        if unsent := publish(next_stage, queued, fleet=Post.station.fleet):
            Post.loop.run(Post.station.ledger.give_back(next_stage, unsent))
    log.info("chunk_done", stage=stage, queries=len(ids), moved=len(moved))
