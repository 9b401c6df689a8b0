"""What may be spent, for the rules: what is left of a line's ``max_cost_usd``, and a chunk's share of a budget."""

import math
import time
from collections.abc import Collection, Mapping, Sequence

from db.ledger_types import QueuedQuery
from routing.budget.degradation import fit_to_budget_share
from routing.budget.query_budget import OverQueryBudget, fit_to_query_budget
from routing.fleet import BudgetPolicy
from routing.policy.decision import Decision
from routing.query import Query
from tasks.budget_cache import BatchBudgetState
from tasks.worker_context import WorkerContext

OPEN_COUNT_TTL_S = 1.0
"""For so long a count of a batch's open queries is good enough: it takes 0.1 s for a million."""


async def remaining_per_query(waiting: Sequence[QueuedQuery], context: WorkerContext) -> dict[int, float]:
    """Dollars that are left of each query's ``max_cost_usd``; queries without one are not in it."""
    caps = {one.id: float(cap) for one in waiting if (cap := one.options.get("max_cost_usd")) is not None}
    if not caps:
        return {}
    spent = await context.ledger.spent(list(caps))
    return {query_id: cap - spent.get(query_id, 0.0) for query_id, cap in caps.items()}


async def remaining_per_batch(batch_ids: Collection[int], context: WorkerContext) -> dict[int, float]:
    """Dollars that are not yet spent of each batch's budgets; batches without one are not in it."""
    return await context.ledger.unspent(list(batch_ids)) if batch_ids else {}


async def left_of_budgets(batch_ids: Collection[int], context: WorkerContext) -> dict[int, float]:
    """The same for every batch, infinite without a budget; up to `OPEN_COUNT_TTL_S` old, so only an indication."""
    now = time.monotonic()
    stale = {id_ for id_ in batch_ids if now - context.allowances.of(id_).read_at > OPEN_COUNT_TTL_S}
    if stale:
        left = await remaining_per_batch(stale, context)
        for batch_id in stale:
            allowance = context.allowances.of(batch_id)
            allowance.unspent_usd, allowance.read_at = left.get(batch_id, math.inf), now
    return {batch_id: context.allowances.of(batch_id).unspent_usd for batch_id in batch_ids}


async def apply_budgets(
    queries: Mapping[int, Query],
    decisions: Mapping[int, Decision],
    claimed: Sequence[QueuedQuery],
    context: WorkerContext,
) -> dict[int, Decision | OverQueryBudget]:
    """``decisions`` as far as they can be paid for, by lines and by batches."""
    thrifty = await _within_shares(queries, decisions, claimed, context)
    lines = await remaining_per_query(claimed, context)
    return thrifty | {
        query_id: fit_to_query_budget(queries[query_id], thrifty[query_id], left_usd=left_usd, fleet=context.fleet)
        for query_id, left_usd in lines.items()
    }


async def _within_shares(
    queries: Mapping[int, Query],
    decisions: Mapping[int, Decision],
    claimed: Sequence[QueuedQuery],
    context: WorkerContext,
) -> dict[int, Decision]:
    lowered = dict(decisions)
    thrifty = {one.batch_id for one in claimed if one.budget_policy is BudgetPolicy.DEGRADE}
    for batch_id, unspent_usd in (await remaining_per_batch(thrifty, context)).items():
        ids = [one.id for one in claimed if one.batch_id == batch_id]
        allowance = await _allowance(batch_id, context)
        share_usd = min(unspent_usd, unspent_usd * len(ids) / max(allowance.open, len(ids)) + allowance.spared_usd)
        thrift = fit_to_budget_share(
            [queries[query_id] for query_id in ids],
            [decisions[query_id] for query_id in ids],
            fleet=context.fleet,
            share_usd=share_usd,
            unspent_usd=unspent_usd,
        )
        allowance.spared_usd = max(0.0, share_usd - thrift.expected_usd)
        lowered |= dict(zip(ids, thrift.decisions, strict=True))
    return lowered


async def _allowance(batch_id: int, context: WorkerContext) -> BatchBudgetState:
    allowance = context.allowances.of(batch_id)
    if time.monotonic() - allowance.counted_at > OPEN_COUNT_TTL_S:
        allowance.open = (await context.ledger.open_queries([batch_id])).get(batch_id, 1)
        allowance.counted_at = time.monotonic()
    return allowance
