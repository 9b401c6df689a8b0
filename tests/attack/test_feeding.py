"""One tenant's batches against the feeder, on which those of all others wait."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from db.worker_registry import WorkerRegistry
from routing.lifecycle import ROUTE
from tasks.feeder import feeder as feeding
from tasks.feeder.feeder import Feeder
from tests.attack.conftest import within
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


def test_what_is_done_for_each_of_a_neighbors_batches_holds_up_no_feeding(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand batches of a line took a minute at each look at their lanes, five million lines that expired six."""
    fed: list[tuple[str, list[int]]] = []

    def publish(stage: str, ids: Sequence[int], **_: object) -> list[int]:
        fed.append((stage, list(ids)))
        return []

    monkeypatch.setattr(feeding, "publish", publish)

    async def story(bench: LedgerHarness) -> None:
        (neighbors,) = await bench.submit(1, tenant="neighbor")
        await bench.rows_as_owner("UPDATE batches SET expires_at = now() - interval '1 second'")
        await bench.rows("UPDATE queries SET due_at = '9000-01-01'")
        (other,) = await bench.submit(1, tenant="other")
        async with worker_context_of(bench, bench.fleet) as context, bench.owner() as owner:
            feeder = Feeder(context, WorkerRegistry(bench.engine), None)
            async with owner.connect() as slow:  # as if closing, sharing and buying took for ever
                await slow.execute(text("BEGIN"))
                await slow.execute(text("SELECT FROM queries WHERE id = :id FOR UPDATE"), {"id": neighbors})
                await slow.execute(text("LOCK TABLE followers, provider_batches IN ACCESS EXCLUSIVE MODE"))
                with within(10.0, "a round of the feeder"):
                    async with asyncio.timeout(10):
                        await feeder._feed(heals=True)
                assert any(other in ids for stage, ids in fed if stage == ROUTE)
                await slow.execute(text("ROLLBACK"))
            await asyncio.gather(*(each.task for each in feeder.periodic if each.task is not None))
        assert (await bench.row(neighbors)).state == "expired"

    on_bench(story)


def test_a_neighbors_queries_that_are_closed_leave_a_turn_to_others(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "CLOSED_PER_TURN", 1)

    async def story(bench: LedgerHarness) -> None:
        first, second, third = [(await bench.submit(1, tenant=name))[0] for name in ("neighbor", "neighbor", "other")]
        await bench.rows_as_owner("UPDATE batches SET expires_at = now() - interval '1 second'")
        async with worker_context_of(bench, bench.fleet) as context:
            await Feeder(context, WorkerRegistry(bench.engine), None)._close_batches()
        assert [(await bench.row(id_)).state for id_ in (first, second, third)] == ["expired", "ready", "expired"]

    on_bench(story)


def test_of_all_that_a_neighbor_holds_no_more_is_released_than_its_budget_of_the_day_pays(on_bench: OnBench) -> None:
    """Each batch got what is left of the day: what did not fit was held again, with two decisions, at each answer."""

    async def story(bench: LedgerHarness) -> None:
        await bench.rows_as_owner("INSERT INTO tenants (name, day_usd) VALUES ('neighbor', 1.0)")
        for _ in range(8):
            await bench.submit(4, tenant="neighbor")
        for cap_usd in (0.05, 0.2):
            await bench.submit(4, tenant="neighbor", cap_usd=cap_usd)
        await bench.submit(4, tenant="other")
        await bench.rows("UPDATE queries SET state = 'held', needs_usd = 0.1")
        assert await bench.ledger.release_held() == 10 + 4
        freed = await bench.rows(
            "SELECT batch_id, count(*) AS n FROM queries WHERE state = 'ready' GROUP BY 1 ORDER BY 1"
        )
        assert [row.n for row in freed] == [2, 1, 1, 1, 1, 1, 1, 1, 1, 4], "its batches take turns"

    on_bench(story)
