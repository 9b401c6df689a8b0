"""Asking twice: where a call is slower than nearly all of its kind, a second one elsewhere races it.

Both are in the ledger and both are paid for; the first completion is the answer. The loser is
recorded when it comes in, for its price is not known before.
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
    """A call that is under way."""

    sent: SentCall
    call: "asyncio.Task[Outcome]"


async def race_hedge(
    first: InFlightCall, *, after_s: float, second: Callable[[], Awaitable[InFlightCall | None]], context: WorkerContext
) -> list[CallResult]:
    """What the race gave, the decisive result last: a completion, or the last failure where both failed.

    ``second`` starts the other call, or returns None where it may not be made; it is asked once
    ``first`` has given nothing for ``after_s`` seconds.
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
