"""A candidate that decides beside the live router: logged, compared, and never in anybody's way."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from db.batch_writer import BatchSpec
from db.label_store import Label, label
from db.reports.batch_progress import Batch
from db.shadow_decisions import beside
from routing.policy.llm_router_prompt import RouterVote
from routing.query import Query
from simulator.process import SimulatorProcess
from tasks.worker_context import WorkerContext
from tests.chaos import query_corpus
from tests.integration.end_to_end import hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from trained_routers.hot_reload import LoadedRouters

QUERIES = 60


class Upwards:
    """A candidate that would ask the top tier about everything that the gate leaves to it."""

    name = "upwards"
    workload = None

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        p_ok = {"small": 0.1, "medium": 0.2, "large": 0.95}
        return [RouterVote(router=self.name, tier="large", confidence=0.95, score=0.9, reason="up", p_ok=p_ok)] * len(
            queries
        )


class Broken(Upwards):
    """A candidate that can decide nothing."""

    name = "broken"
    workload = None

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        raise RuntimeError("no idea")


async def _answered(context: WorkerContext, tag: str) -> Batch:
    batch = await hand_in(query_corpus.lines(tag, QUERIES), BatchSpec(source="test"), context)
    await work_off(context)
    while context.background_tasks:
        await asyncio.wait(context.background_tasks)
    return batch


async def _done(bench: LedgerHarness, batch: Batch) -> int:
    rows = await bench.rows("SELECT count(*) AS n FROM queries WHERE batch_id = :id AND state = 'done'", id=batch.id)
    return int(rows[0].n)


def test_a_shadow_is_logged_beside_the_live_router_and_spends_nothing(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            alone = await _answered(context, "alone")
            context.trained = LoadedRouters(shadow=Upwards())
            shadowed = await _answered(context, "shadowed")
            rows = await beside(bench.engine, router=None, batch_id=shadowed.id)
            assert not await beside(bench.engine, router=None, batch_id=alone.id)
            assert sum(row.queries for row in rows) == QUERIES
            assert {row.router for row in rows} == {"upwards"}
            assert sum(row.queries for row in rows if row.shadow == "large") > sum(
                row.queries for row in rows if row.live == "large"
            )
            # The live side is what it was: the same states, no decision more, no call more than the queries needed.
            assert await _done(bench, shadowed) == await _done(bench, alone) == QUERIES
            kinds = "SELECT DISTINCT kind FROM decisions WHERE batch_id = :id"
            assert set(await bench.rows(kinds, id=shadowed.id)) <= set(await bench.rows(kinds, id=alone.id))
            assert not await bench.rows("SELECT 1 FROM calls WHERE purpose = 'route'")

    on_bench(story)


def test_a_shadow_like_the_live_router_agrees_with_it_whatever_is_explored(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = simulated_fleet(simulator.url)
        router = replace(fleet.router, stages=("gate", "classifier"), exploration=0.5)
        async with worker_context_of(bench, replace(fleet, router=router)) as context:
            context.trained = LoadedRouters(predictor=Upwards(), shadow=Upwards())
            batch = await _answered(context, "alike")
            explored = await bench.rows("SELECT 1 FROM decisions WHERE router = 'exploration'")
            assert explored
            rows = await beside(bench.engine, router="upwards", batch_id=batch.id)
            assert sum(row.queries for row in rows) == QUERIES - len(explored)
            assert all(row.live == row.shadow for row in rows)

    on_bench(story)


def test_labels_say_how_right_the_live_answers_were_that_the_shadow_would_have_asked_elsewhere(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            context.trained = LoadedRouters(shadow=Upwards())
            batch = await _answered(context, "labelled")
            answers = await bench.rows(
                "SELECT query_id, tier FROM answers WHERE query_id IN (SELECT id FROM queries WHERE batch_id = :id)",
                id=batch.id,
            )
            wrong = [Label(row.query_id, row.tier, 0.0) for row in answers]
            right = [Label(row.query_id, row.tier, 1.0) for row in answers]
            assert await label(bench.engine, wrong, source="command", said_by="test") == QUERIES
            assert await label(bench.engine, right, source="command", said_by="test") == QUERIES
            rows = await beside(bench.engine, router="upwards", batch_id=batch.id)
            assert sum(row.labelled for row in rows) == QUERIES
            assert {row.grade for row in rows} == {1.0}, "the newest label counts"

    on_bench(story)


def test_a_shadow_that_fails_is_in_nobodys_way(
    on_bench: OnBench, simulator: SimulatorProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            context.trained = LoadedRouters(shadow=Broken())
            batch = await _answered(context, "broken")
            assert await _done(bench, batch) == QUERIES
            assert not await beside(bench.engine, router=None, batch_id=batch.id)

    on_bench(story)
    assert "shadow_failed" in capsys.readouterr().out
