"""The rows of running workers."""

from db.worker_registry import WorkerRegistry
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
