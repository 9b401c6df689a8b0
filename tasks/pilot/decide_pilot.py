"""The decision of a pilot: grade the sample, fit and certify a policy, or sample more."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from db.kept_lease import kept_lease
from db.pilots import Pilots, TakenPilot
from evaluation.graders.text_graders import GraderKind
from routing.pilot import GraderChoice
from tasks.pilot.graded_sample import GradedSample
from tasks.pilot.grading import grade_sample, grader_kind
from tasks.pilot.judging import known_verdicts
from tasks.pilot.pilot_certification import Certified, NextLook, SampleMore, certify_sample, next_step, to_the_top
from tasks.pilot.sample import SampledQuery, read_sample
from tasks.worker_context import WorkerContext

log = structlog.get_logger()


MOST_CHARS: Final = 50_000_000
"""Maximum characters of a sample's questions and answers, which are all in memory: twice the largest sample of ordinary
texts."""

DECISION_LEASE_S: Final = 120.0
"""Another worker decides a pilot that is not decided within this time. The deciding worker renews the lease."""


async def decide_pilot(taken: TakenPilot, context: WorkerContext) -> None:
    """Decide the pilot once. A repeated message finds it claimed, or decided. Raises DBAPIError."""
    pilots = Pilots(context.engine)
    claimed = await pilots.claim(taken, lease_s=DECISION_LEASE_S)
    pilot = None if claimed is None else await pilots.find(taken.batch_id)
    if claimed is None or pilot is None:
        return
    # A user's command or a large fit may take longer than the lease.
    renew = partial(pilots.renew, claimed, lease_s=DECISION_LEASE_S)
    async with kept_lease(renew, lease_s=DECISION_LEASE_S, batch_id=claimed.batch_id):
        await _decide(claimed, pilot, context)


async def _decide(claimed: TakenPilot, pilot: Row[Any], context: WorkerContext) -> None:
    pilots, batch_id, ladder = Pilots(context.engine), claimed.batch_id, context.fleet.ladder
    outcome: SampleMore | NextLook | Certified
    try:
        sample: list[SampledQuery] = []
        chars = 0
        async for rows in pilots.answers(batch_id):
            some = await asyncio.to_thread(read_sample, rows, ladder)
            sample += some
            chars += sum(query.chars for query in some)
            if chars > MOST_CHARS:
                break
        outcome = (
            next_step(sample, pilot=pilot, ladder=ladder)
            if chars <= MOST_CHARS
            else to_the_top(
                pilot, ladder, f"the texts of the sample are longer than the limit of {MOST_CHARS:,} characters"
            )
        )
        if isinstance(outcome, NextLook):
            graded = await _grade(sample, claimed, pilot.grader, context)
            if context.stopping.is_set() and graded.abstained:
                return  # a warm shutdown: another worker goes on from the verdicts that there are
            cost = await pilots.grading_cost(batch_id)
            outside = await pilots.outside(batch_id, [query.query_id for query in sample])
            # Fitting takes a second or more of CPU: the loop has other queries to route meanwhile.
            outcome = await asyncio.to_thread(
                certify_sample,
                sample,
                graded,
                outcome,
                pilot=pilot,
                ladder=ladder,
                unanswered=outside.queries,
                capped=outside.capped,
                grading_usd=float(cost.usd),
            )
    except (DBAPIError, NoConnection):
        raise  # the lease runs out, and it is decided then
    except Exception as error:
        # Tried again it would fail again, and the batch would never end.
        log.exception("pilot_failed", batch_id=batch_id, error=type(error).__name__)
        outcome = to_the_top(
            pilot, ladder, f"the certification failed ({type(error).__name__}), so the top tier answers"
        )
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


async def _grade(
    sample: Sequence[SampledQuery], claimed: TakenPilot, chosen: str | None, context: WorkerContext
) -> GradedSample:
    grader = None if chosen is None else GraderChoice(chosen)
    kind = await asyncio.to_thread(grader_kind, sample, grader, context.fleet)
    known = await known_verdicts(claimed.batch_id, context) if kind is GraderKind.JUDGE else {}
    return await grade_sample(
        sample, kind, known=known, batch_id=claimed.batch_id, epoch=claimed.epoch, context=context
    )
