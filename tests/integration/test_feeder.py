"""When the feeder looks at a stage again that had nothing due, and what it renews."""

import asyncio
from collections.abc import Sequence

import pytest

from db.worker_registry import WorkerRegistry
from routing.lifecycle import FALLBACK, ROUTE
from tasks.feeder.feeder import Feeder
from tasks.publisher import MAX_CHUNK
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


def test_only_while_the_broker_holds_more_than_a_message_does_the_feeder_gather_a_trickle(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, list[int]]] = []

    def publish(stage: str, ids: Sequence[int], **_: object) -> list[int]:
        sent.append((stage, list(ids)))
        return []

    monkeypatch.setattr("tasks.feeder.feeder.publish", publish)

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, bench.fleet) as context:
            feeder = Feeder(context, WorkerRegistry(bench.engine), None)
            await feeder._fill_windows()
            assert sent == []
            *many, last = await bench.submit(MAX_CHUNK + 1)
            await bench.rows("UPDATE queries SET due_at = 'infinity' WHERE id = :id", id=last)
            await feeder._fill_windows()
            assert sent == [(ROUTE, many)]
            await bench.rows(
                "UPDATE queries SET stage = :stage, due_at = now() WHERE id = :id", id=last, stage=FALLBACK
            )
            await feeder._fill_windows()
            assert sent == [(ROUTE, many)]
            await bench.rows("UPDATE queries SET state = 'ready', due_at = 'infinity' WHERE id = :id", id=many[0])
            await feeder._fill_windows()
            assert sent == [(ROUTE, many), (FALLBACK, [last])]

    on_bench(story)


def test_a_limit_of_a_tenant_is_renewed_where_no_api_runs(on_bench: OnBench) -> None:
    """The API did it alone: two days after it had stopped, a batch that goes on had no limit."""

    async def story(bench: LedgerHarness) -> None:
        await bench.rows_as_owner("INSERT INTO tenants (name, day_usd) VALUES ('idle', 20), ('own', 30)")
        await bench.submit(1, tenant="own")
        await bench.submit(1, tenant="unlimited")
        asked = "SELECT tenant, cap_usd FROM budgets WHERE tenant IS NOT NULL ORDER BY tenant, day"
        limits = [("own", 30), ("own", 30)]
        assert [tuple(row) for row in await bench.rows(asked)] == limits
        await bench.rows_as_owner("UPDATE budgets SET day = day - 3 WHERE tenant IS NOT NULL")
        async with worker_context_of(bench, bench.fleet) as context:
            feeder = Feeder(context, WorkerRegistry(bench.engine), None)
            await feeder._run_maintenance(rescue_as_of=None)
            feeder.start_periodic()
            today = asked.replace("WHERE", "WHERE day >= CAST(now() AT TIME ZONE 'UTC' AS date) AND")
            at_once = [tuple(row) for row in await bench.rows(today)]
            assert [row for row in at_once if row[0] == "own"] == limits, "before anything is published"
            assert feeder.renewing.task is not None
            await asyncio.gather(*(each.task for each in feeder.periodic if each.task is not None))
        assert [tuple(row) for row in await bench.rows(today)] == [("idle", 20), ("idle", 20), *limits]

    on_bench(story)
