"""A batch's whole way in one process: real Postgres, the real tasks, the simulator; no broker and no feeder process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from db.batch_writer import BatchSpec
from db.ledger import Ledger
from db.reports.batch_progress import Batch, find_batch
from db.reports.batch_stats import BatchFigures, batch_figures
from fleet_config import load_fleet
from providers.client import ProviderClient
from providers.limits.admission_control import AdmissionController
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, ROUTE
from settings import ROOT, Settings
from submission.forecaster import Forecaster
from submission.input_line import InputLine
from submission.submit import submit
from tasks.stages.answer import answer
from tasks.stages.fallback import fall_back
from tasks.stages.route import route
from tasks.worker_context import WorkerContext
from tests.integration.ledger_fixtures import LedgerHarness

CHUNK = 25


def simulated_fleet(simulator_url: str) -> Fleet:
    """Prices that the simulator knows too, the gate alone as a router, no waits between tries.

    A machine that halts for some seconds makes no call unknown: it would be made, and charged, once more.
    """
    fleet = load_fleet(ROOT / "tests" / "chaos" / "fleet.toml", {"POINTSMAN_SIMULATOR_URL": simulator_url})
    providers = {name: replace(each, deadline_s=30.0) for name, each in fleet.providers.items()}
    return replace(fleet, providers=providers, timing=replace(fleet.timing, lease_s=120.0, backoff_s=0.01))


@asynccontextmanager
async def worker_context_of(
    bench: LedgerHarness, fleet: Fleet, *, environ: Mapping[str, str] | None = None
) -> AsyncIterator[WorkerContext]:
    """A worker's context that serves every stage."""
    context = WorkerContext(
        fleet,
        bench.engine,
        Ledger(bench.engine, worker_id=1, lease_s=fleet.timing.lease_s),
        ProviderClient(fleet, environ=environ or {}),
        AdmissionController(None, fleet=fleet, worker="test"),
        slots={name: asyncio.Semaphore(tier.concurrency) for name, tier in fleet.tiers.items()},
        claims={name: asyncio.Semaphore(2 * tier.concurrency) for name, tier in fleet.tiers.items()},
    )
    try:
        yield context
    finally:
        if context.background_tasks:
            await asyncio.wait(context.background_tasks)
        await context.admission.aclose()
        await context.pool.aclose()


async def hand_in(
    lines: Iterable[InputLine], order: BatchSpec, context: WorkerContext, *, settings: Settings | None = None
) -> Batch:
    """The batch that ``lines`` became, with a forecast by ``settings`` if they are given."""
    forecaster = None if settings is None else Forecaster(settings, context.fleet, context.engine, order)
    taken = await submit(lines, engine=context.engine, fleet=context.fleet, spec=order, forecaster=forecaster)
    batch = await find_batch(context.engine, taken.public_id)
    assert batch is not None
    return batch


async def work_off(context: WorkerContext, look: Callable[[], Awaitable[None]] | None = None) -> None:
    """Until nothing is due any more at any stage, and budgets have no room for what is held; ``look`` all the while.

    What waits for a wave waits on.
    """
    rounds = 0
    while True:
        moved = 0
        for stage in (ROUTE, *context.fleet.tiers, FALLBACK):
            ids = await context.ledger.fill_window(stage, room=200)
            moved += len(ids)
            await asyncio.gather(*(_serve(stage, some, context, look) for some in _chunks(ids)))
        moved += await context.ledger.release_held()
        moved += await context.ledger.share_answers()
        rounds += 1
        assert rounds < 2000, "it goes to and fro"
        if not moved and not await _soon_due(context):
            await context.ledger.end_batches()
            return


async def _serve(
    stage: str, ids: Sequence[int], context: WorkerContext, look: Callable[[], Awaitable[None]] | None
) -> None:
    serve = {ROUTE: route, FALLBACK: fall_back}.get(stage)
    work = asyncio.ensure_future(answer(stage, ids, context) if serve is None else serve(ids, context))
    while look is not None and not work.done():
        await look()
        await asyncio.wait([work], timeout=0.01)
    await work


def _chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[place : place + CHUNK] for place in range(0, len(ids), CHUNK)]


async def _soon_due(context: WorkerContext) -> bool:
    """Waits for what was put off; false where nothing was."""
    async with context.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT extract(epoch FROM min(due_at) - now()) FROM queries"
                " WHERE state IN ('ready', 'queued') AND due_at < '9000-01-01' AND (due_at < now() + interval '90 s'"
                " OR NOT EXISTS (SELECT FROM batches AS b WHERE b.id = batch_id AND b.deadline IS NOT NULL))"
            )
        )
        wait_s = rows.scalar_one()
    if wait_s is None:
        return False
    assert wait_s < 60, "nothing is due for long"  # a breaker rests up to this long
    await asyncio.sleep(max(0.0, float(wait_s)))
    return True


class Watch:
    """Samples of a batch's budget, from a connection of its own."""

    def __init__(self, bench: LedgerHarness, batch: Batch) -> None:
        self._bench = bench
        self._batch = batch
        self.samples = 0
        self.most_usd = Decimal(0)
        """The most that was ever settled and reserved together."""

    async def look(self) -> None:
        """Takes a sample."""
        (row,) = await self._bench.rows(
            "SELECT reserved_usd + settled_usd AS usd, cap_usd FROM budgets WHERE batch_id = :id", id=self._batch.id
        )
        self.samples += 1
        self.most_usd = max(self.most_usd, row.usd)
        assert row.usd <= row.cap_usd


async def account(batch: Batch, context: WorkerContext) -> BatchFigures:
    return await batch_figures(context.engine, batch)


async def certificate_of(batch: Batch, context: WorkerContext) -> Mapping[str, Any]:
    quality = (await account(batch, context)).quality
    assert quality is not None
    assert quality.certificate is not None
    return quality.certificate
