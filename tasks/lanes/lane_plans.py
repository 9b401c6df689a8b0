"""The plans of batches with a deadline, which are renewed as their queries, the time left and the log change."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from db.provider_batches import ProviderBatches
from routing.fleet import Fleet
from routing.lanes.lane import BatchAge
from routing.lanes.lane_plan import LanePlan
from routing.lanes.tier_offers import tier_lanes
from routing.lifecycle import FALLBACK, ROUTE

log = structlog.get_logger()

PLAN_TTL_S: Final = 10.0
"""How long, in seconds, a plan is used. Making one takes some 25 ms, and a deadline is hours away."""


@dataclass(slots=True)
class LanePlans:
    """The plans of one feeder."""

    ttl_s: float = PLAN_TTL_S
    _plans: dict[int, tuple[float, LanePlan]] = field(default_factory=dict)

    async def of(self, batch_id: int, batches: ProviderBatches, fleet: Fleet) -> LanePlan | None:
        """Return the plan of a batch. If none is possible, return None and log it. Raises DBAPIError."""
        now = time.monotonic()
        made_at, plan = self._plans.get(batch_id, (-self.ttl_s, None))
        if plan is not None and now < made_at + self.ttl_s:
            return plan
        self._plans = {id_: kept for id_, kept in self._plans.items() if now < kept[0] + self.ttl_s}
        row, ages = await batches.open_of(batch_id), await batches.ages(simulated=fleet.simulated)
        try:
            plan = await asyncio.to_thread(_plan, fleet, row.forecast_tiers or {}, row.open, row.left_s, ages)
        except Exception as error:
            # Without a plan, what waits is bought at standard in time.
            log.exception("lane_plan_failed", batch_id=batch_id, error=type(error).__name__)
            return None
        self._plans[batch_id] = now, plan
        return plan


def _plan(
    fleet: Fleet,
    forecast_tiers: Mapping[str, Mapping[str, Any]],
    open_: Mapping[str, int],
    left_s: float,
    ages: Mapping[str, Sequence[BatchAge]],
) -> LanePlan:
    lanes = tier_lanes(fleet, forecast_tiers, open_queries=open_by_tier(fleet, forecast_tiers, open_), ages=ages)
    return LanePlan(lanes, left_s=left_s)


def open_by_tier(
    fleet: Fleet, forecast_tiers: Mapping[str, Mapping[str, Any]], open_: Mapping[str, int]
) -> dict[str, float]:
    """Return the open queries by tier. Unrouted ones count by the forecast's shares, else at the top tier; expected
    climbs are included."""
    found = {name: float(open_.get(name, 0)) for name in fleet.tiers}
    routed = {name: float(figures.get("routed", 0.0)) for name, figures in forecast_tiers.items() if name in found}
    total = sum(routed.values())
    for name, count in routed.items() if total else [(fleet.top, 1.0)]:
        found[name] += open_.get(ROUTE, 0) * count / (total or 1.0)
    found[fleet.top] += open_.get(FALLBACK, 0)
    return found
