"""The budgets that the rules use: what is left of a line's ``max_cost_usd``, and a chunk's share of a budget."""

import math
import time
from collections.abc import Collection, Mapping, Sequence

from db.ledger_types import QueuedQuery
from routing.answer_lengths import UNKNOWN_LENGTHS
from routing.budget.degradation import DegradingBudget, QueryBudget
from routing.fleet import BudgetPolicy
from routing.policy.routing_case import Decision
from tasks.budget_cache import BatchBudgetState
from tasks.worker_context import WorkerContext

OPEN_COUNT_TTL_S = 1.0
"""How long, in seconds, a count of a batch's open queries is used. Counting a million takes 0.1 s."""


async def remaining_per_query(waiting: Sequence[QueuedQuery], context: WorkerContext) -> dict[int, float]:
    """Return the dollars left of each query's ``max_cost_usd``. Queries without one are not included."""
    caps = {query.id: float(cap) for query in waiting if (cap := query.options.get("max_cost_usd")) is not None}
    if not caps:
        return {}
    spent = await context.ledger.spent(list(caps))
    return {query_id: cap - spent.get(query_id, 0.0) for query_id, cap in caps.items()}


async def remaining_per_batch(batch_ids: Collection[int], context: WorkerContext) -> dict[int, float]:
    """Return the dollars left of each batch's budgets. Batches without one are not included.

    For these, ``context.allowances`` then holds the lengths of their forecasts.
    """
    left = await context.ledger.unspent(list(batch_ids)) if batch_ids else {}
    if unread := [batch_id for batch_id in left if context.allowances.of(batch_id).lengths is None]:
        found = await context.ledger.answer_lengths(unread)
        for batch_id in unread:
            context.allowances.of(batch_id).lengths = found.get(batch_id, UNKNOWN_LENGTHS)
    return left


async def left_of_budgets(batch_ids: Collection[int], context: WorkerContext) -> dict[int, float]:
    """Return the same for every batch, infinite without a budget. It is up to `OPEN_COUNT_TTL_S` old, so only an
    indication."""
    now = time.monotonic()
    stale = {id_ for id_ in batch_ids if now - context.allowances.of(id_).read_at > OPEN_COUNT_TTL_S}
    if stale:
        left = await remaining_per_batch(stale, context)
        for batch_id in stale:
            allowance = context.allowances.of(batch_id)
            allowance.unspent_usd, allowance.read_at = left.get(batch_id, math.inf), now
    return {batch_id: context.allowances.of(batch_id).unspent_usd for batch_id in batch_ids}


async def fetch_budgets(queued: Sequence[QueuedQuery], context: WorkerContext) -> dict[int, QueryBudget]:
    """Return what is left for each of ``queued``, by query id."""
    caps = await remaining_per_query(queued, context)
    batches: dict[int, DegradingBudget] = {}
    for batch_id, unspent_usd in (await remaining_per_batch(degrading(queued), context)).items():
        allowance = await _allowance(batch_id, context)
        batches[batch_id] = DegradingBudget(
            batch_id, unspent_usd, allowance.open, allowance.spared_usd, allowance.known_lengths
        )
    return {query.id: QueryBudget(caps.get(query.id), batches.get(query.batch_id)) for query in queued}


def spare_shares(decisions: Mapping[int, Decision], budgets: Mapping[int, QueryBudget], context: WorkerContext) -> None:
    """Keep what ``decisions`` did not use of their batches' shares for the next chunk."""
    expected: dict[DegradingBudget, list[float]] = {}
    for query_id, decision in decisions.items():
        batch = budgets[query_id].batch
        if batch is not None and not decision.wants_vote:
            expected.setdefault(batch, []).append(decision.expected_usd)
    for batch, usd in expected.items():
        context.allowances.of(batch.batch_id).spared_usd = max(0.0, batch.share_usd(len(usd)) - sum(usd))


def degrading(queued: Sequence[QueuedQuery]) -> set[int]:
    """Return the batches of ``queued`` that degrade if their budget is too small."""
    return {query.batch_id for query in queued if query.budget_policy is BudgetPolicy.DEGRADE}


async def open_per_batch(batch_ids: Collection[int], context: WorkerContext) -> dict[int, int]:
    """Return the number of open queries of each batch, up to `OPEN_COUNT_TTL_S` old."""
    return {batch_id: (await _allowance(batch_id, context)).open for batch_id in batch_ids}


async def _allowance(batch_id: int, context: WorkerContext) -> BatchBudgetState:
    allowance = context.allowances.of(batch_id)
    if time.monotonic() - allowance.counted_at > OPEN_COUNT_TTL_S:
        allowance.open = (await context.ledger.open_queries([batch_id])).get(batch_id, 1)
        allowance.counted_at = time.monotonic()
    return allowance
