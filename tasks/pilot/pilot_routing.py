"""Routing of batches with a quality floor: samples start at the lowest tier, and the rest follows the certified
policy."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from db.ledger_types import QueuedQuery
from db.pilots import Pilots
from routing.pilot import PilotStart, PolicyStart, QualityPolicy
from routing.query import Query
from routing.reason import Reason, ReasonCode
from tasks.pilot.policy_cache import ServedPolicy
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

SAMPLED = Reason(ReasonCode.PILOT, "part of the pilot, so every tier answers")


async def served_policies(queued: Sequence[QueuedQuery], context: WorkerContext) -> Mapping[int, ServedPolicy]:
    """Return the policies of the batches of ``queued``, by batch id. Raises DBAPIError."""
    batch_ids = {query.batch_id for query in queued if query.has_policy}
    if not batch_ids:
        return {}
    return await context.policies.get(batch_ids, Pilots(context.engine), ladder=context.fleet.ladder)


async def pilot_starts(
    queries: Mapping[int, Query], queued: Sequence[QueuedQuery], context: WorkerContext
) -> dict[int, PilotStart]:
    """Return the tiers at which pilots and their policies have ``queued`` start, by query id, without pinned
    queries."""
    policies = await served_policies(queued, context)
    starts: dict[int, PilotStart] = {}
    by_batch: dict[int, list[int]] = {}
    for query in queued:
        if queries[query.id].is_pinned:
            continue
        if query.is_pilot:
            starts[query.id] = PilotStart(context.fleet.ladder[0], "pilot", (SAMPLED,))
        elif query.batch_id in policies:
            by_batch.setdefault(query.batch_id, []).append(query.id)
    for batch_id, ids in by_batch.items():
        if (policy := policies[batch_id].policy) is None:
            continue
        # Half a millisecond each: the loop has answers to see to meanwhile.
        found = await asyncio.to_thread(_starts, policy, ids, queries, top=context.fleet.top)
        for id_, (tier, why) in zip(ids, found, strict=True):
            reasons = (Reason(ReasonCode.QUALITY_POLICY, text) for text in (policies[batch_id].why, why) if text)
            starts[id_] = PilotStart(tier, "quality_policy", tuple(reasons))
    return starts


def _starts(policy: QualityPolicy, ids: Sequence[int], queries: Mapping[int, Query], *, top: str) -> list[PolicyStart]:
    try:
        return policy.starts(ids, [queries[id_].text for id_ in ids])
    except Exception as error:
        # One query that a policy cannot digest must not take the others with it.
        if len(ids) > 1:
            return [_starts(policy, [id_], queries, top=top)[0] for id_ in ids]
        log.error("policy_failed", query_id=ids[0], error=type(error).__name__)
        return [PolicyStart(top, f"the policy failed on this query ({type(error).__name__}), so {top} answers")]
