"""What was, and what is under way: what a prediction builds on."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.worker_registry import WorkerRegistry
from routing.fleet import Fleet
from routing.forecast.forecast_types import ForecastHistory, QueueLoad
from routing.outcome import Usage

BATCHES: Final = 20
ROWS_EACH: Final = 2000
"""Of each batch: enough to know a mean, and read in a moment however large it was."""

ALIKE: Final = 10
"""By how much a batch may be larger or smaller for its time to be comparable."""


async def load_history(engine: AsyncEngine, fleet: Fleet, *, total: int) -> ForecastHistory:
    """What is known from the newest ended batches of ``fleet`` for a batch of ``total`` queries; empty without any."""
    batches = await run_report(engine, "forecast_batches", fleet=fleet.name, simulated=fleet.simulated, batches=BATCHES)
    plans = {row.id: row.plan or {} for row in batches}
    if not plans:
        return ForecastHistory()
    verdicts = await run_report(engine, "forecast_verdicts", batch_ids=list(plans), each=ROWS_EACH)
    calls: dict[str, int] = defaultdict(int)
    waited_ms: dict[str, float] = defaultdict(float)
    reasoned: dict[str, float] = defaultdict(float)
    ratios: dict[str, list[float]] = defaultdict(list)
    for row in await run_report(engine, "forecast_calls", batch_ids=list(plans), each=ROWS_EACH):
        calls[row.tier] += row.calls
        waited_ms[row.tier] += row.calls * row.latency_ms
        reasoned[row.tier] += row.calls * row.reasoning_tokens
        if estimated_usd := plans[row.batch_id].get("tiers", {}).get(row.tier, {}).get("estimated_call_usd"):
            ratios[row.tier].append((row.cost_usd - _reasoning_usd(row, fleet)) / estimated_usd)
    return ForecastHistory(
        verdicts={row.tier: (row.judged, row.passed) for row in verdicts},
        latencies={tier: (count, waited_ms[tier] / count / 1000.0) for tier, count in calls.items()},
        cost_ratios=dict(ratios),
        reasoning_tokens={tier: reasoned[tier] / count for tier, count in calls.items()},
        time_ratios=[
            row.wall_s / estimated_s
            for row in batches
            if (estimated_s := plans[row.id].get("estimated_s")) and total / ALIKE <= row.total <= total * ALIKE
        ],
    )


def _reasoning_usd(row: Row[Any], fleet: Fleet) -> float:
    """What the reasoning of an answer cost on average, at the price of the tier's first model."""
    if row.tier not in fleet.tiers:
        return 0.0
    return fleet.deployments(row.tier)[0].price.cost_usd(Usage(completion_tokens=round(row.reasoning_tokens)))


async def load_queues(engine: AsyncEngine, fleet: Fleet, *, otherwise: Mapping[str, int]) -> QueueLoad:
    """Open queries per stage, and the slots of the workers that live; ``otherwise`` those where none does."""
    slots: dict[str, int] = defaultdict(int)
    for worker in await WorkerRegistry(engine).alive():
        for role in worker.role.split():
            if (tier := fleet.tiers.get(role)) is not None:
                slots[role] += tier.concurrency
    # What is held waits for money, not for us.
    return QueueLoad(
        slots={tier: slots.get(tier) or count for tier, count in otherwise.items()},
        open={row.stage: row.ready + row.queued + row.running for row in await run_report(engine, "queue_depths")},
    )
