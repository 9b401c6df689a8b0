"""Hedging: if a call is slower than almost all similar calls, a second call elsewhere races it.

Both are in the ledger and both are paid for. The first completion is the answer. The loser is recorded when it arrives,
because its price is not known before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from db.call_result import CallResult, SentCall
from routing.outcome import Completion, Outcome
from tasks.worker_context import WorkerContext

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InFlightCall:
    sent: SentCall
    call: "asyncio.Task[Outcome]"


async def race_hedge(
    first: InFlightCall, *, after_s: float, second: Callable[[], Awaitable[InFlightCall | None]], context: WorkerContext
) -> list[CallResult]:
    """Return the results of the race, with the decisive one last: a completion, or the last failure if both failed.

    ``second`` starts the other call, or returns None if it may not be made. It starts once ``first`` has no result
    after ``after_s`` seconds.
    """
    await asyncio.wait({first.call}, timeout=after_s)
    other = None
    try:
        if not first.call.done():
            other = await second()
    except Exception as error:
        # The first call is under way, and paid for: what keeps it from a race must not keep it from its answer.
        log.warning("no_hedge", error=type(error).__name__)
    racers = {racer.call: racer for racer in (first, other) if racer is not None}
    came: list[CallResult] = []
    while racers:
        done, _ = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            came.append(CallResult(racers.pop(call).sent, call.result()))
            if isinstance(came[-1].outcome, Completion):
                for loser in racers.values():
                    context.spawn_background(_record(loser, context))
                return came
    return came


async def _record(loser: InFlightCall, context: WorkerContext) -> None:
    await context.ledger.record(CallResult(loser.sent, await loser.call))
