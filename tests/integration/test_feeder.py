"""When the feeder looks at a stage again that had nothing due."""

from collections.abc import Sequence

import pytest

from db.worker_registry import WorkerRegistry
from routing.lifecycle import FALLBACK, ROUTE
from tasks.feeder.feeder import Feeder
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


def test_only_while_the_broker_holds_queries_does_the_feeder_gather_a_trickle(
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
            first, second = await bench.submit(2)
            await bench.rows("UPDATE queries SET due_at = 'infinity' WHERE id = :id", id=second)
            await feeder._fill_windows()
            assert sent == [(ROUTE, [first])]
            await bench.rows(
                "UPDATE queries SET stage = :stage, due_at = now() WHERE id = :id", id=second, stage=FALLBACK
            )
            await feeder._fill_windows()
            assert sent == [(ROUTE, [first])]
            await bench.rows("UPDATE queries SET state = 'ready', due_at = 'infinity' WHERE id = :id", id=first)
            await feeder._fill_windows()
            assert sent == [(ROUTE, [first]), (FALLBACK, [second])]

    on_bench(story)
