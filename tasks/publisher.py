"""Publishes ids to the broker: chunks of queries that are already `queued` in Postgres."""

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
"""Maximum ids per message of a tier."""

ROUTE_CHUNK = 400
"""Ids per message of the route stage. A message costs its worker some 2 ms of Celery's and Redis's overhead, and each
routed chunk becomes a message for every tier: doubling the size halves their number."""

TASK_OF = {ROUTE: "route", FALLBACK: "fallback"}
"""The task of a stage. A tier's is ``answer``."""


def chunk_size(stage: str, fleet: Fleet) -> int:
    """Return the ids per message at ``stage``. For a tier it is at most its slots, so that workers share a short
    backlog."""
    if stage == ROUTE:
        return ROUTE_CHUNK
    tier = fleet.tiers.get(stage)
    return min(MAX_CHUNK, max(1, tier.concurrency)) if tier else MAX_CHUNK


def publish(stage: str, ids: Sequence[int], *, fleet: Fleet) -> list[int]:
    """Send ``ids`` to the stage's queue. Return those that could not be sent and are to be given back."""
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
    """Have a worker of the route stage decide the batch's pilot. If sending fails, the pilot is taken again after its
    lease."""
    try:
        app.send_task("decide_pilot", kwargs=taken._asdict(), queue=queue_of(ROUTE, fleet))
    except (OperationalError, OSError) as error:
        log.warning("publish_failed", stage=ROUTE, pilots=1, error=type(error).__name__)


def publish_provider_batch(taken: TakenBatch, *, fleet: Fleet) -> None:
    """Have a worker of the route stage do the next step of a provider batch. If sending fails, it is taken again."""
    try:
        app.send_task("step_provider_batch", kwargs=taken._asdict(), queue=queue_of(ROUTE, fleet))
    except (OperationalError, OSError) as error:
        log.warning("publish_failed", stage=ROUTE, provider_batches=1, error=type(error).__name__)


def shown(stage: str, ids: Sequence[int]) -> str:
    """Return what Flower, events and logs show of a message: the stage, and the range of its query ids.

    It is a literal, which Flower reads to search by ``kwargs:stage=small``.
    """
    return repr({"stage": stage, "ids": f"{len(ids)} from {min(ids)} to {max(ids)}"})


def by_stage(moved: Mapping[int, tuple[str, str]]) -> dict[str, list[int]]:
    """Return, from the result of `Ledger.transition`, the ids that it put into the broker's share, by stage."""
    queued: dict[str, list[int]] = {}
    for query_id, (stage, state) in moved.items():
        if state == "queued":
            queued.setdefault(stage, []).append(query_id)
    return queued
