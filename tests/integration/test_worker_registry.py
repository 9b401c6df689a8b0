"""The rows of running workers."""

import asyncio

from db.worker_registry import WorkerRegistry, report_deaths
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


def test_a_worker_that_a_failover_has_forgotten_is_known_again_by_its_next_heartbeat(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        registry = WorkerRegistry(bench.engine)
        worker_id = await registry.register(name="small", role="small", host="one", pid=7, slots=16)
        await bench.rows_as_owner("DELETE FROM workers WHERE id = :id", id=worker_id)
        assert not [row for row in await registry.alive() if row.id == worker_id]
        await registry.heartbeat(worker_id, in_flight=3)
        (row,) = [row for row in await registry.alive() if row.id == worker_id]
        assert (row.name, row.role, row.slots, row.in_flight) == ("small", "small", 16, 3)
        # Nobody else's is made up.
        await registry.heartbeat(worker_id + 1000, in_flight=0)
        assert not [row for row in await registry.alive() if row.id == worker_id + 1000]

    on_bench(story)


def test_a_worker_whose_death_is_reported_vanishes_once_and_whatever_it_sent_last(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        registry = WorkerRegistry(bench.engine)
        dead, other = [
            await registry.register(name=name, role="small", host="one", pid=7, slots=16) for name in ("dead", "other")
        ]
        url = bench.engine.url.render_as_string(hide_password=False)
        assert await asyncio.to_thread(report_deaths, url, [dead])
        await registry.heartbeat(dead, in_flight=1)  # Postgres got it before the process ended
        assert await registry.prune_stale() == ["dead"]
        assert await registry.prune_stale() == []
        assert await registry.died(within_s=60) == [dead]
        assert [row.id for row in await registry.alive() if row.id in (dead, other)] == [other]
        await bench.rows("UPDATE workers SET died_at = died_at - interval '2 min' WHERE id = :id", id=dead)
        assert await registry.died(within_s=60) == []
        assert not await asyncio.to_thread(report_deaths, "postgresql://127.0.0.1:1/none", [dead])

    on_bench(story)
