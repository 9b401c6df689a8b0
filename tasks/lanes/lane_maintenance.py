"""The feeder's work for lanes: starts waves, and has the next step of each provider batch done."""

import asyncio
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy import Row

from db.provider_batches import ProviderBatches
from routing.fleet import Fleet, Model
from routing.lanes.lane import Lane
from routing.lanes.tier_offers import lane_deployment
from routing.provider_batch_lifecycle import ProviderBatchState
from tasks.lanes.lane_plans import LanePlans
from tasks.publisher import publish_provider_batch
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

GATHER_S: Final = 2.0
"""A wave starts once no query has arrived at its tier for this many seconds."""

LONGEST_GATHER_S: Final = 30.0
"""A wave also starts once its oldest query has waited this many seconds, so that small waves need not become large."""

WAVE_GAP_S: Final = 5.0
"""Minimum seconds between two waves of the same batch and tier that are not full."""

PLANNING_S: Final = 1.0
"""After so many seconds of a round, no more plans are made in it: a tenant may have a thousand batches."""

REVIEW_EVERY_S: Final = 10.0
"""Seconds between two reviews of the open provider batches."""


@dataclass(slots=True)
class WaveStarter:
    """Starts waves for one feeder. Its memory only keeps it from asking too often."""

    gather_s: float = GATHER_S
    gap_s: float = WAVE_GAP_S
    plans: LanePlans = field(default_factory=LanePlans)
    reviewed_at: float = -math.inf
    begun_at: dict[tuple[int, str], float] = field(default_factory=dict)

    async def advance(self, context: WorkerContext) -> bool:
        """Do one round: start waves, and have a worker do each due step. Returns whether there were any. Raises
        DBAPIError."""
        await self.begin(context)
        batches, fleet = ProviderBatches(context.engine), context.fleet
        due = await batches.take_due(lease_s=fleet.timing.lease_s, simulated=fleet.simulated)
        for taken in due:
            await asyncio.to_thread(publish_provider_batch, taken, fleet=fleet)
        return bool(due)

    async def begin(self, context: WorkerContext) -> None:
        """Start the waves that are due. Raises DBAPIError."""
        now = time.monotonic()
        self.begun_at = {key: begun_at for key, begun_at in self.begun_at.items() if now < begun_at + self.gap_s}
        if tiers := lane_tiers(context.fleet):
            batches = ProviderBatches(context.engine)
            rows = await batches.waiting(list(tiers), simulated=context.fleet.simulated)
            waiting = {name: {row.tenant for row in rows if row.tier == name} for name in tiers}
            until = time.monotonic() + PLANNING_S
            for place, row in enumerate(rows):
                if place and time.monotonic() > until:
                    break  # tenants take turns in each round, and a plan is kept for some rounds
                await self._start(row, tiers[row.tier], waiting[row.tier], batches, context.fleet)
            await self._review(tiers, batches, context.fleet)

    async def _start(
        self,
        row: Row[Any],
        deployments: tuple[Model, ...],
        waiting: Collection[str],
        batches: ProviderBatches,
        fleet: Fleet,
    ) -> None:
        key = (row.batch_id, row.tier)
        most = max((model.batch_limits.max_requests for model in deployments), default=math.inf)
        gathers = (row.newest_s < self.gather_s or row.is_routing) and row.oldest_s < LONGEST_GATHER_S
        rests = key in self.begun_at
        if row.queries < most and (gathers or rests):
            return
        plan = await self.plans.of(row.batch_id, batches, fleet)
        choice = None if plan is None else plan.choose(row.tier)
        if choice is None or choice.lane is not Lane.BATCH or not deployments:
            why = "no plan was possible, so the query uses the standard lane" if choice is None else str(choice.reason)
            lane = Lane.STANDARD if choice is None else choice.lane
            moved = await batches.call_directly(row.batch_id, row.tier, lane=lane, reason=why)
            log.info(
                "wave_called_directly", batch_id=row.batch_id, tier=row.tier, lane=lane.value, queries=moved, why=why
            )
            return
        if (found := await with_room(row, deployments, waiting, batches)) is None:
            return
        model, max_tokens = found
        self.begun_at[key] = time.monotonic()
        id_ = await batches.begin(
            row.batch_id,
            model,
            reason=str(choice.reason),
            max_queries=model.batch_limits.max_requests,
            max_tokens=max_tokens,
        )
        if id_ is not None:
            log.info(
                "wave_begun", provider_batch=id_, batch_id=row.batch_id, deployment=model.name, waiting=row.queries
            )

    async def _review(self, tiers: Mapping[str, tuple[Model, ...]], batches: ProviderBatches, fleet: Fleet) -> None:
        """Decide for each open provider batch how long it is waited for.

        A cancelling one is waited for until the standard lane needs the time. One of a tier that no longer has a batch
        lane is waited for until its deadline is near.
        """
        now = time.monotonic()
        if now < self.reviewed_at + REVIEW_EVERY_S:
            return
        self.reviewed_at = now
        rows = await batches.under_way(simulated=fleet.simulated)
        until = time.monotonic() + PLANNING_S
        for row in rows:
            if time.monotonic() > until:
                return
            if row.tier not in tiers or Lane.BATCH not in lane_deployment(fleet, row.tier).lanes:
                continue
            plan = await self.plans.of(row.batch_id, batches, fleet)
            if plan is None:
                continue
            state = ProviderBatchState(row.state)
            verdict: str | None = None
            if state is ProviderBatchState.CANCELLING:
                give_up_s = row.age_s + plan.standard_within_s(row.tier)
            else:
                review = plan.review(row.tier, row.age_s)
                give_up_s, verdict = review.give_up_s, str(review.reason)
            await batches.review(row.id, state, give_up_s=give_up_s, verdict=verdict)


async def with_room(
    row: Row[Any], deployments: Sequence[Model], waiting: Collection[str], batches: ProviderBatches
) -> tuple[Model, int | None] | None:
    """Return the deployment for a wave, and the tokens it has room for (None: any number). None if none has room.

    The first in failover order is preferred, because the plan uses its price. Deployments with provider batches that
    gave this tier nothing come last. Tenants that are ``waiting`` at the tier share what a deployment may have
    enqueued.
    """
    unanswered = await batches.unanswered(row.batch_id, row.tier)
    for model in sorted(deployments, key=lambda model: model.name in unanswered):
        most = model.batch_limits.max_enqueued_tokens
        left = None
        if most is not None:
            left = await batches.room(model.name, most=most, tenant=row.tenant, waiting=waiting)
        if left is None or left > 0:
            return model, left
    return None


def lane_tiers(fleet: Fleet) -> dict[str, tuple[Model, ...]]:
    """Return the tiers with a lane other than standard, each with its deployments that have a batch lane."""
    return {
        name: tuple(model for model in fleet.deployments(name) if Lane.BATCH in model.lanes)
        for name in fleet.tiers
        if any(len(model.lanes) > 1 for model in fleet.deployments(name))
    }
