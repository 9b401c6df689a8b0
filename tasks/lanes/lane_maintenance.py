"""What the feeder does for lanes: begins waves, and has the next step of each provider batch done."""

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from sqlalchemy import Row

from db.provider_batches import ProviderBatches
from routing.fleet import Fleet, Model
from routing.lanes.lane import Lane
from tasks.publisher import publish_provider_batch
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

GATHER_S: Final = 2.0
"""A wave leaves once nothing has come to its tier for so long."""

LONGEST_GATHER_S: Final = 30.0
"""Or once its oldest query has waited for so long: small waves are not held up for large ones."""

PAUSE_S: Final = 5.0
"""Between two waves of the same batch and tier that are not full."""

GIVE_UP_IN_S: Final = 300.0
"""With less time to the deadline, what still waits is bought at standard speed."""


@dataclass(slots=True)
class WaveStarter:
    """Begins waves. Of one feeder; what it remembers only keeps it from asking too often."""

    gather_s: float = GATHER_S
    pause_s: float = PAUSE_S
    begun_at: dict[tuple[int, str], float] = field(default_factory=dict)
    waves: "Counter[tuple[int, str]]" = field(default_factory=Counter)

    async def advance(self, context: WorkerContext) -> None:
        """One round: begins waves, and has a worker do each step that is due. Raises DBAPIError."""
        await self.begin(context)
        batches, fleet = ProviderBatches(context.engine), context.fleet
        for taken in await batches.take_due(lease_s=fleet.timing.lease_s, simulated=fleet.simulated):
            await asyncio.to_thread(publish_provider_batch, taken, fleet=fleet)

    async def begin(self, context: WorkerContext) -> None:
        """Begins the waves for which it is time. Raises DBAPIError."""
        if tiers := batch_tiers(context.fleet):
            batches = ProviderBatches(context.engine)
            for row in await batches.waiting(list(tiers), simulated=context.fleet.simulated):
                await self._start(row, tiers[row.tier], batches)

    async def _start(self, row: Row[Any], deployments: tuple[Model, ...], batches: ProviderBatches) -> None:
        if row.deadline_in_s < GIVE_UP_IN_S:
            moved = await batches.to_standard(row.batch_id, row.tier, reason="the deadline is near: standard speed")
            log.info("wave_to_standard", batch_id=row.batch_id, tier=row.tier, queries=moved)
            return
        key = (row.batch_id, row.tier)
        model = deployments[self.waves[key] % len(deployments)]
        most = model.batch_limits.max_requests
        gathers = (row.newest_s < self.gather_s or row.is_routing) and row.oldest_s < LONGEST_GATHER_S
        rests = time.monotonic() < self.begun_at.get(key, -math.inf) + self.pause_s
        if row.queries < most and (gathers or rests):
            return
        self.begun_at[key] = time.monotonic()
        reason = f"{row.deadline_in_s / 3600:.1f} h to the deadline: the batch lane of {model.name}"
        if (id_ := await batches.begin(row.batch_id, model, reason=reason, max_queries=most)) is not None:
            self.waves[key] += 1
            log.info(
                "wave_begun", provider_batch=id_, batch_id=row.batch_id, deployment=model.name, waiting=row.queries
            )


def batch_tiers(fleet: Fleet) -> dict[str, tuple[Model, ...]]:
    """The deployments with a batch lane, by tier; without the tiers that have none."""
    found = {name: tuple(m for m in fleet.deployments(name) if Lane.BATCH in m.lanes) for name in fleet.tiers}
    return {name: models for name, models in found.items() if models}
