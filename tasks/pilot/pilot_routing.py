"""Routing of batches with a quality floor: samples start at the lowest tier, the rest goes by the certified policy."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from db.ledger_types import QueuedQuery
from db.pilots import Pilots
from routing.context_window import fitting
from routing.fleet import Fleet
from routing.pilot import QualityPolicy
from routing.policy.decision import Decision
from routing.query import Query
from routing.reason import Reason, ReasonCode
from tasks.pilot.policy_cache import ServedPolicy
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

SAMPLED = Reason(ReasonCode.PILOT, "part of the pilot: every tier answers")


async def served_policies(queued: Sequence[QueuedQuery], context: WorkerContext) -> Mapping[int, ServedPolicy]:
    """The policies of the batches of ``queued``, by batch id. Raises DBAPIError."""
    batch_ids = {query.batch_id for query in queued if query.has_policy}
    if not batch_ids:
        return {}
    return await context.policies.get(batch_ids, Pilots(context.engine), ladder=context.fleet.ladder)


async def apply_pilots(
    decisions: Mapping[int, Decision],
    queries: Mapping[int, Query],
    queued: Sequence[QueuedQuery],
    context: WorkerContext,
) -> dict[int, Decision]:
    """``decisions``, but where a pilot or its policy decides instead.

    Neither moves a query off the tier that its pin, its attachments or its tools demand.
    """
    changed = dict(decisions)
    policies = await served_policies(queued, context)
    fleet = context.fleet
    by_batch: dict[int, list[int]] = {}
    for query in queued:
        if decisions[query.id].tier not in fleet.ladder or queries[query.id].is_pinned:
            continue
        if query.is_pilot:
            tier = _lowest(queries[query.id], fleet, fleet.ladder[0])
            changed[query.id] = _decided(decisions[query.id], tier, "pilot", SAMPLED)
        elif query.batch_id in policies:
            by_batch.setdefault(query.batch_id, []).append(query.id)
    for batch_id, ids in by_batch.items():
        if (policy := policies[batch_id].policy) is None:
            continue
        # Half a millisecond each: the loop has answers to see to meanwhile.
        tiers = await asyncio.to_thread(_first_tiers, policy, ids, queries, top=fleet.top)
        for id_, first in zip(ids, tiers, strict=True):
            tier = _lowest(queries[id_], fleet, first)
            changed[id_] = _decided(
                decisions[id_], tier, "quality_policy", Reason(ReasonCode.QUALITY_POLICY, "certified for this batch")
            )
    return changed


def _first_tiers(policy: QualityPolicy, ids: Sequence[int], queries: Mapping[int, Query], *, top: str) -> list[str]:
    try:
        return policy.first_tiers(ids, [queries[id_].text for id_ in ids])
    except Exception as error:
        # One query that a policy cannot digest must not take the others with it.
        if len(ids) > 1:
            return [_first_tiers(policy, [id_], queries, top=top)[0] for id_ in ids]
        log.error("policy_failed", query_id=ids[0], error=type(error).__name__)
        return [top]


def _lowest(query: Query, fleet: Fleet, tier: str) -> str:
    """``tier``, or the next above it that the query fits."""
    above = fleet.ladder[fleet.ladder.index(tier) :]
    return next((name for name in above if fitting(query, fleet=fleet, tier=name)), fleet.top)


def _decided(decision: Decision, tier: str, router: str, reason: Reason) -> Decision:
    return decision._replace(
        tier=tier, router=router, model=None, reasons=(reason,), propensity=1.0, wants_opinion=False
    )
