"""Routing of batches with a quality floor: samples start at the lowest tier, the rest goes by the certified policy."""

from collections.abc import Mapping, Sequence

from db.ledger_types import QueuedQuery
from db.pilots import Pilots
from routing.context_window import fitting
from routing.fleet import Fleet
from routing.policy.decision import Decision
from routing.query import Query
from tasks.pilot.policy_cache import ServedPolicy
from tasks.worker_context import WorkerContext


async def served_policies(queued: Sequence[QueuedQuery], station: WorkerContext) -> Mapping[int, ServedPolicy]:
    """The policies of the batches of ``queued``, by batch id. Raises DBAPIError."""
    batch_ids = {query.batch_id for query in queued if query.has_policy}
    if not batch_ids:
        return {}
    return await station.policies.get(batch_ids, Pilots(station.engine), ladder=station.fleet.ladder)


async def apply_pilots(
    decisions: Mapping[int, Decision],
    queries: Mapping[int, Query],
    queued: Sequence[QueuedQuery],
    station: WorkerContext,
) -> dict[int, Decision]:
    """``decisions``, but where a pilot or its policy decides instead.

    Neither moves a query off the tier that its pin, its attachments or its tools demand.
    """
    changed = dict(decisions)
    policies = await served_policies(queued, station)
    fleet = station.fleet
    for one in queued:
        decision, query = decisions[one.id], queries[one.id]
        if decision.tier not in fleet.ladder or query.pin not in (None, "", "auto"):
            continue
        if one.is_pilot:
            tier = _lowest(query, fleet, fleet.ladder[0])
            changed[one.id] = _decided(decision, tier, "pilot", "pilot: every tier answers a sampled query")
        elif (served := policies.get(one.batch_id)) is not None and served.policy is not None:
            tier = _lowest(query, fleet, served.policy.first_tier(query.text))
            changed[one.id] = _decided(decision, tier, "quality_policy", "quality_policy: the batch's certified policy")
    return changed


def _lowest(query: Query, fleet: Fleet, tier: str) -> str:
    """``tier``, or the next above it that the query fits."""
    above = fleet.ladder[fleet.ladder.index(tier) :]
    return next((name for name in above if fitting(query, fleet=fleet, tier=name)), fleet.top)


def _decided(decision: Decision, tier: str, router: str, reason: str) -> Decision:
    return decision._replace(
        tier=tier, router=router, model=None, reasons=(reason,), propensity=1.0, wants_opinion=False
    )
