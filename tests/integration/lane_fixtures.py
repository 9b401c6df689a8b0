"""Batches with a deadline in one process: real Postgres, the real tasks, the simulator's batch API; no broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from db.batch_writer import BatchSpec
from db.provider_batches import ProviderBatches
from db.reports.batch_progress import Batch
from fleet_config.price_lookup import with_lanes
from routing.fleet import Fleet, Model
from routing.lanes.lane import Lane
from simulator.process import SimulatorProcess, start_simulator
from tasks.lanes.lane_maintenance import WaveStarter
from tasks.lanes.provider_batch_step import step_provider_batch
from tasks.worker_context import WorkerContext
from tests.integration.end_to_end import hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness
from tests.integration.test_budget_guard import PRICES
from tests.integration.test_pilot import lines

FAST = {"clock": 600.0}
"""A provider's batch of seven minutes takes less than a second."""


@contextmanager
def batching_simulator(tmp_path: Path, **batch: Any) -> Iterator[SimulatorProcess]:
    """A simulator whose batch API is fast; it logs every call to ``tmp_path/calls.jsonl``."""
    config = {"batch": FAST | batch, "prices": PRICES}
    with start_simulator(log=tmp_path / "calls.jsonl", config=config) as running:
        yield running


def batching_fleet(
    simulator_url: str, provider: str = "openai", lanes: tuple[Lane, ...] = (Lane.BATCH, Lane.STANDARD)
) -> Fleet:
    """Only the deployments of one provider, each with these lanes, at half price."""
    fleet = simulated_fleet(simulator_url)
    models = {name: _with(model, lanes) for name, model in fleet.models.items() if model.provider == provider}
    tiers = {
        name: replace(tier, models=tuple(known for known in tier.models if known in models))
        for name, tier in fleet.tiers.items()
    }
    kept = {name: tier for name, tier in tiers.items() if tier.models}
    ladder = {name: replace(tier, escalates_to=_kept(tier.escalates_to, kept)) for name, tier in kept.items()}
    return replace(fleet, models=models, tiers=ladder)


def _kept(tier: str | None, kept: Collection[str]) -> str | None:
    return tier if tier in kept else None


def killable_fleet(simulator_url: str, provider: str) -> Fleet:
    """The same, with leases that are over soon after a worker's death."""
    fleet = batching_fleet(simulator_url, provider)
    providers = {name: replace(each, deadline_s=4.0) for name, each in fleet.providers.items()}
    return replace(fleet, providers=providers, timing=replace(fleet.timing, lease_s=8.0))


def _with(model: Model, lanes: tuple[Lane, ...]) -> Model:
    return replace(model, lanes=lanes, price=with_lanes(model.price, lanes))


def within(hours: float, **spec: Any) -> BatchSpec:
    """A batch whose answers are wanted so soon."""
    return BatchSpec(source="test", deadline=datetime.now(UTC) + timedelta(hours=hours), **spec)


async def buy(
    context: WorkerContext, *, rounds: int = 400, until: Callable[[WorkerContext], Awaitable[bool]] | None = None
) -> None:
    """Works off every stage and every provider batch, as feeder and workers do, until all queries have ended."""
    is_enough = until or is_over
    batches, starter = ProviderBatches(context.engine), WaveStarter(gather_s=0.0, gap_s=0.5)
    for _ in range(rounds):
        await work_off(context)
        await starter.begin(context)
        for taken in await batches.take_due(lease_s=context.fleet.timing.lease_s, simulated=None):
            await step_provider_batch(taken, context)
        await context.ledger.end_batches()
        if await is_enough(context):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("queries are still open")


async def is_submitted(context: WorkerContext) -> bool:
    """Whether a provider has a batch of ours."""
    bench = LedgerHarness(context.engine, context.fleet)
    return bool(await bench.rows("SELECT 1 FROM provider_batches WHERE state = 'submitted'"))


@asynccontextmanager
async def stuck_batch(
    bench: LedgerHarness, tmp_path: Path, *, queries: int = 8, provider: str = "openai", cap_usd: float | None = None
) -> AsyncIterator[tuple[SimulatorProcess, WorkerContext, Batch]]:
    """A batch with a day's time that a provider has, and does not answer."""
    with batching_simulator(tmp_path) as simulator:
        simulator.control(faults=[{"kind": "batch_stuck"}])
        async with worker_context_of(bench, batching_fleet(simulator.url, provider)) as context:
            batch = await hand_in(lines(queries), within(24, cap_usd=cap_usd), context)
            await buy(context, until=is_submitted)
            yield simulator, context, batch


async def is_over(context: WorkerContext) -> bool:
    """Whether no batch and no provider batch is open."""
    bench = LedgerHarness(context.engine, context.fleet)
    (row,) = await bench.rows(
        "SELECT (SELECT count(*) FROM batches WHERE ended_at IS NULL)"
        " + (SELECT count(*) FROM provider_batches WHERE state <> 'done') AS open"
    )
    return bool(row.open == 0)


async def charged_usd(bench: LedgerHarness) -> float:
    """What the ledger has of all calls."""
    (row,) = await bench.rows("SELECT coalesce(sum(cost_usd), 0) AS usd FROM calls")
    return float(row.usd)
