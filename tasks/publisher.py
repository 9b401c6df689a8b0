"""Ids into the broker: chunks of queries that are already `queued` in Postgres."""

from collections.abc import Mapping, Sequence

import structlog
from kombu.exceptions import OperationalError

from db import failpoints
from db.pilots import TakenPilot
from db.provider_batches import TakenBatch
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, ROUTE
from tasks.celery_app import app, queue_of

log = structlog.get_logger()

MAX_CHUNK = 200
"""Ids per message of a tier at most."""

ROUTE_CHUNK = 400
"""Ids per message of the route stage. A message costs its worker some 2 ms of Celery's and Redis' machinery, and each
chunk that is routed becomes one for every tier: twice as large they are half as many."""

TASK_OF = {ROUTE: "route", FALLBACK: "fallback"}
"""The task of a stage; a tier's is ``answer``."""


def chunk_size(stage: str, fleet: Fleet) -> int:
    """Ids per message at ``stage``: for a tier no more than its slots, so that workers share a short backlog."""
    if stage == ROUTE:
        return ROUTE_CHUNK
    tier = fleet.tiers.get(stage)
    return min(MAX_CHUNK, max(1, tier.concurrency)) if tier else MAX_CHUNK


def publish(stage: str, ids: Sequence[int], *, fleet: Fleet) -> list[int]:
    """Sends ``ids`` to the stage's queue; returns those that could not be sent, to be given back."""
    size = chunk_size(stage, fleet)
    if ids:
        failpoints.die_at("die_before_publish")
    for start in range(0, len(ids), size):
        some = list(ids[start : start + size])
        try:
            for _ in range(3 if failpoints.is_set("publish_thrice") else 1):
                app.send_task(
                    TASK_OF.get(stage, "answer"),
                    kwargs={"stage": stage, "ids": some},
                    # Celery's own takes 0.2 ms for 200 ids, and Flower parses it again at each event of the task.
                    kwargsrepr=shown(stage, some),
                    # Only `queue=`: with an explicit exchange and routing key Redis silently drops after a FLUSHALL.
                    queue=queue_of(stage, fleet),
                )
        except (OperationalError, OSError) as error:
            log.warning("publish_failed", stage=stage, queries=len(ids) - start, error=type(error).__name__)
            return list(ids[start:])
    return []


def publish_pilot(taken: TakenPilot, *, fleet: Fleet) -> None:
    """Has a worker of the route stage decide the batch's pilot. What is not sent is taken again after its lease."""
    try:
        app.send_task("decide_pilot", kwargs=taken._asdict(), queue=queue_of(ROUTE, fleet))
    except (OperationalError, OSError) as error:
        log.warning("publish_failed", stage=ROUTE, pilots=1, error=type(error).__name__)


def publish_provider_batch(taken: TakenBatch, *, fleet: Fleet) -> None:
    """Has a worker of the route stage do the next step of a provider batch. What is not sent is taken again."""
    try:
        app.send_task("step_provider_batch", kwargs=taken._asdict(), queue=queue_of(ROUTE, fleet))
    except (OperationalError, OSError) as error:
        log.warning("publish_failed", stage=ROUTE, provider_batches=1, error=type(error).__name__)


def shown(stage: str, ids: Sequence[int]) -> str:
    """What Flower, events and logs show of a message: the stage, and between which ids its queries are.

    A literal, as Flower reads it to search by ``kwargs:stage=small``.
    """
    return repr({"stage": stage, "ids": f"{len(ids)} from {min(ids)} to {max(ids)}"})


def by_stage(moved: Mapping[int, tuple[str, str]]) -> dict[str, list[int]]:
    """Of what `Ledger.transition` returned, the ids that it put into the broker's share, by stage."""
    queued: dict[str, list[int]] = {}
    for query_id, (stage, state) in moved.items():
        if state == "queued":
            queued.setdefault(stage, []).append(query_id)
    return queued
