"""A tier's stage: each query of a message has its stay, as many at once as the tier has slots."""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import Row

from db.ledger_types import QueuedQuery
from routing.outcome import ACCOUNT, Failure, FailureKind
from routing.policy.failover import Attempt
from tasks.stages.budget_guard import left_of_budgets, remaining_per_query
from tasks.stages.query_executor import Moved, QueryExecutor
from tasks.worker_context import WorkerContext

log = structlog.get_logger()


async def answer(stage: str, ids: Sequence[int], context: WorkerContext) -> dict[int, Moved]:
    """Answers those of ``ids`` that wait at tier ``stage``; returns where each that moved went.

    A query is claimed only when a slot is about to be free and its limits have room for it; what a
    stopping worker has not claimed goes back to the feeder.
    """
    waiting = await context.ledger.waiting(stage, ids)
    failed = await _failed_calls([one for one in waiting if one.attempts], context)
    left_usd = await remaining_per_query(waiting, context)
    budgets_usd = await left_of_budgets({one.batch_id for one in waiting}, context)

    def stay(one: QueuedQuery) -> QueryExecutor:
        return QueryExecutor(
            one,
            stage,
            context,
            failed.get(one.id, []),
            left_usd=left_usd.get(one.id, math.inf),
            budget_usd=budgets_usd[one.batch_id],
        )

    unclaimed = deque(one for one in waiting if not one.is_poison_suspect)
    suspects = deque(one for one in waiting if one.is_poison_suspect)
    moved: dict[int, Moved] = {}
    stays = context.stays[stage]
    async with asyncio.TaskGroup() as calls:
        while unclaimed and not context.stopping.is_set():
            await stays.acquire()
            if context.stopping.is_set():
                stays.release()
                break
            one = unclaimed.popleft()
            calls.create_task(_in_stay(stay(one), stays, moved))
    while suspects and not context.stopping.is_set():
        async with context.alone:
            await stays.acquire()
            if context.stopping.is_set():
                stays.release()
                break
            one = suspects.popleft()
            await _in_stay(stay(one), stays, moved)
    await context.ledger.requeue(stage, [one.id for one in (*unclaimed, *suspects)])
    return moved


async def _in_stay(stay: QueryExecutor, stays: asyncio.Semaphore, moved: dict[int, Moved]) -> None:
    try:
        went = await stay.run()
    except Exception as error:
        # Its lease runs out and the feeder rescues it; the others of the chunk go on.
        log.exception("answer_failed", query_id=stay.one.id, error=type(error).__name__)
    else:
        if went is not None:
            moved[stay.one.id] = went
    finally:
        stays.release()


async def _failed_calls(waiting: Sequence[QueuedQuery], context: WorkerContext) -> dict[int, list[Attempt]]:
    if not waiting:
        return {}
    rows = await context.ledger.attempts([one.id for one in waiting])
    return {one.id: _counted(rows.get(one.id, []))[-one.attempts :] for one in waiting}


def _counted(rows: Sequence[Row[Any]]) -> list[Attempt]:
    """The calls that count as attempts: limits cost time alone, and an account's fault was waited for."""
    found = (
        Attempt(row.deployment, Failure(FailureKind(row.outcome), _earlier(row), status=row.status)) for row in rows
    )
    return [attempt for attempt in found if not attempt.outcome.is_limit and attempt.outcome.kind not in ACCOUNT]


def _earlier(row: Row[Any]) -> str:
    """What an earlier call met, in the words of `providers.client`."""
    status = f"status {row.status}" if row.status and row.status != 200 else None
    words = " ".join(word for word in (status, row.cause) if word)
    return (words + (f": {row.param}" if row.param else "")) or "an earlier call"
