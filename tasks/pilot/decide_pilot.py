"""The decision of a pilot: grade the sample, fit and certify a policy, or sample more."""

import asyncio
from typing import Final

import structlog

from db.pilots import Pilots, TakenPilot
from tasks.pilot.pilot_certification import Certified, SampleMore, decide, to_the_top
from tasks.pilot.sample import read_sample
from tasks.worker_context import WorkerContext

log = structlog.get_logger()


DECISION_LEASE_S: Final = 120.0
"""A pilot that is not decided within this is decided by another worker; each call of its grader renews it."""


async def decide_pilot(taken: TakenPilot, context: WorkerContext) -> None:
    """Decides the pilot, once: a message that comes again finds it claimed, or decided. Raises DBAPIError."""
    pilots, batch_id = Pilots(context.engine), taken.batch_id
    claimed = await pilots.claim(taken, lease_s=DECISION_LEASE_S)
    pilot = None if claimed is None else await pilots.find(batch_id)
    if claimed is None or pilot is None:
        return
    ladder = context.fleet.ladder
    rows = await pilots.answers(batch_id)
    outcome: SampleMore | Certified
    try:
        sample, without = read_sample(rows, ladder)
        # Fitting takes a second or more of CPU: the loop has other queries to route meanwhile.
        outcome = await asyncio.to_thread(decide, sample, pilot=pilot, ladder=ladder, unanswered=without)
    except Exception as error:
        # Tried again it would fail again, and the batch would never end.
        log.exception("pilot_failed", batch_id=batch_id, error=type(error).__name__)
        outcome = to_the_top(pilot, ladder, f"the certification failed ({type(error).__name__}): in doubt, up")
    match outcome:
        case SampleMore(queries=queries, reason=reason):
            log.info("pilot_extended", batch_id=batch_id, queries=queries, reason=reason)
            await pilots.extend(claimed, sample=queries)
        case Certified(certificate=certificate, policy=policy, weights=weights, reason=reason):
            log.info("pilot_decided", batch_id=batch_id, outcome=certificate["outcome"])
            await pilots.decide(
                claimed,
                certificate=certificate,
                policy=policy,
                weights=weights,
                confidence=pilot.confidence,
                reason=reason,
            )
