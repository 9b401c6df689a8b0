"""The feeder's work for pilots: has ended samples decided, releases the rest of a batch, acts on audits."""

import asyncio
from collections import Counter

import structlog

from db.pilots import Pilots
from routing.lifecycle import MoveKind, State
from tasks.pilot.decide_pilot import DECISION_LEASE_S
from tasks.pilot.pilot_certification import is_breached
from tasks.publisher import publish_pilot
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

CLOSED_PER_TURN = 20_000
"""Queries of a tenant that one round closes, of any number of batches: about a second."""


async def advance_pilots(context: WorkerContext) -> None:
    """Do one round. Raises DBAPIError."""
    pilots = Pilots(context.engine)
    for taken in await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=context.fleet.simulated):
        await asyncio.to_thread(publish_pilot, taken, fleet=context.fleet)
    if released := await pilots.release():
        log.info("pilot_rest_released", queries=released)
    closed: Counter[str] = Counter()
    for batch in await pilots.stopped():
        if (most := CLOSED_PER_TURN - closed[batch.tenant]) <= 0:
            continue
        some = await context.ledger.close_queries(
            batch.batch_id,
            move=MoveKind.CANCEL,
            to_state=State.CANCELLED,
            actor="user",
            reason="only the pilot was requested",
            most=most,
        )
        closed[batch.tenant] += some
        if some < most:
            await pilots.stop(batch.batch_id)
    for row in await pilots.open_audits():
        if is_breached(row) and await pilots.breach(row.batch_id):
            log.warning("quality_floor_breached", batch_id=row.batch_id, audits=len(row.losses))
