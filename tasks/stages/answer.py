"""A tier's stage: each query of a message has an executor, with as many at once as the tier has slots."""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import orjson
import structlog
from sqlalchemy import Row

from db.call_result import CallResult, SentCall
from db.ledger_types import QueuedQuery
from providers.adapters.chat_completion import storable
from providers.adapters.openai_adapter import read_chat
from providers.provider_errors import ProviderError
from routing.fleet import Model
from routing.outcome import ACCOUNT, Failure, FailureKind
from routing.policy.failover import Attempt
from tasks.stages.budget_guard import left_of_budgets, remaining_per_query
from tasks.stages.query_executor import NO_CALLS, EarlierCalls, Moved, QueryExecutor
from tasks.worker_context import WorkerContext

log = structlog.get_logger()


async def answer(stage: str, ids: Sequence[int], context: WorkerContext) -> dict[int, Moved]:
    """Answer those of ``ids`` that wait at tier ``stage``. Return the new stage and state of each that moved.

    A query is claimed only when a slot is about to be free and its limits have room for it. Queries that a stopping
    worker has not claimed go back to the feeder.
    """
    waiting = await context.ledger.waiting(stage, ids)
    earlier = await earlier_calls(waiting, context)
    recorded = await recorded_answers(waiting, context)
    left_usd = await remaining_per_query(waiting, context)
    budgets_usd = await left_of_budgets({queued.batch_id for queued in waiting}, context)

    def executor_of(queued: QueuedQuery) -> QueryExecutor:
        return QueryExecutor(
            queued,
            stage,
            context,
            earlier.get(queued.id, NO_CALLS),
            left_usd=left_usd.get(queued.id, math.inf),
            budget_usd=budgets_usd[queued.batch_id],
            recorded=recorded.get(queued.id),
        )

    unclaimed = deque(queued for queued in waiting if not queued.is_poison_suspect)
    suspects = deque(queued for queued in waiting if queued.is_poison_suspect)
    moved: dict[int, Moved] = {}
    claims = context.claims[stage]
    context.prefixes.add(stage, unclaimed)
    async with asyncio.TaskGroup() as calls:
        while unclaimed and (queued := await context.prefixes.next(unclaimed, context.stopping)) is not None:
            await claims.acquire()
            if context.stopping.is_set():
                claims.release()
                unclaimed.append(queued)
                break
            calls.create_task(_run_claimed(executor_of(queued), claims, moved))
    while suspects and not context.stopping.is_set():
        async with context.alone:
            await claims.acquire()
            if context.stopping.is_set():
                claims.release()
                break
            queued = suspects.popleft()
            await _run_claimed(executor_of(queued), claims, moved)
    for queued in unclaimed:
        context.prefixes.end(queued.id)
    await context.ledger.requeue(stage, [queued.id for queued in (*unclaimed, *suspects)])
    return moved


async def _run_claimed(executor: QueryExecutor, claims: asyncio.Semaphore, moved: dict[int, Moved]) -> None:
    try:
        went = await executor.run()
    except Exception as error:
        # Its lease runs out and the feeder rescues it; the others of the chunk go on.
        log.exception("answer_failed", query_id=executor.queued.id, error=type(error).__name__)
    else:
        if went is not None:
            moved[executor.queued.id] = went
    finally:
        executor.context.prefixes.end(executor.queued.id)
        claims.release()


async def earlier_calls(waiting: Sequence[QueuedQuery], context: WorkerContext) -> dict[int, EarlierCalls]:
    """Return the outcomes of earlier calls at this tier for those of ``waiting``, by query."""
    tried = [queued for queued in waiting if queued.attempts]
    if not tried:
        return {}
    rows = await context.ledger.attempts([queued.id for queued in tried])
    return {queued.id: _counted(rows.get(queued.id, []), newest=queued.attempts) for queued in tried}


async def recorded_answers(waiting: Sequence[QueuedQuery], context: WorkerContext) -> dict[int, CallResult]:
    """Return, by query, the paid answers of those of ``waiting`` whose worker was lost between answer and verdict."""
    lost = [queued.id for queued in waiting if queued.crashes]
    if not lost:
        return {}
    found = (await context.ledger.recorded_answers(lost)).items()
    read = {query_id: _recorded(row, context.fleet.models.get(row.deployment)) for query_id, row in found}
    return {query_id: result for query_id, result in read.items() if result is not None}


def _recorded(row: Row[Any], model: Model | None) -> CallResult | None:
    """Return the recorded answer. None if the fleet no longer has the deployment, or the text cannot be read, so that
    the query is asked again."""
    if model is None:
        return None
    try:
        completion = storable(read_chat(orjson.loads(row.response), model), created=0)
    except ProviderError as error:
        log.warning("recorded_answer_unread", query_id=row.query_id, error=type(error).__name__)
        return None
    sent = SentCall(row.id, at=row.created_at, model=model, reserved_usd=float(row.reserved_usd))
    return CallResult(sent, completion.timed(row.latency_ms or 0.0, None))


def _counted(rows: Sequence[Row[Any]], *, newest: int) -> EarlierCalls:
    """Return the newest calls that count as attempts. Limits only cost time, and an account's fault was waited for."""
    found = [
        None
        if row.outcome == "ok"
        else Attempt(row.deployment, Failure(FailureKind(row.outcome), _earlier(row), status=row.status))
        for row in rows
    ]
    counted = [
        attempt
        for attempt in found
        if attempt is None or not (attempt.outcome.is_limit or attempt.outcome.kind in ACCOUNT)
    ][-newest:]
    failed = [attempt for attempt in counted if attempt is not None]
    return EarlierCalls(failed, cuts=len(counted) - len(failed))


def _earlier(row: Row[Any]) -> str:
    """Return what an earlier call met, in the words of `providers.client`."""
    status = f"status {row.status}" if row.status and row.status != 200 else None
    words = " ".join(word for word in (status, row.cause) if word)
    return (words + (f": {row.param}" if row.param else "")) or "an earlier call"
