"""What the route stage claims before it decides: what it asks an LLM about, and what was lost before."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import event

from db.batch_writer import BatchSpec
from db.ledger import Ledger
from db.pilots import Pilots
from routing.fleet import Fleet, LlmRouter
from routing.lifecycle import ROUTE
from routing.pilot import PilotSpec
from routing.policy.exploration import exploration_draw
from simulator.process import SimulatorProcess
from tasks.pilot.decide_pilot import decide_pilot
from tasks.pilot.pilot_maintenance import DECISION_LEASE_S
from tasks.stages.route import route
from tasks.worker_context import WorkerContext
from tests.chaos import query_corpus
from tests.integration.end_to_end import hand_in, simulated_fleet, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

QUERIES = 40


async def queued(context: WorkerContext) -> list[int]:
    """Ids of all that is in the broker after another batch was handed in, as far as the ledger knows."""
    await hand_in(query_corpus.lines("b", QUERIES), BatchSpec(source="test"), context)
    return await context.ledger.fill_window(ROUTE, room=10 * QUERIES)


async def epochs(bench: LedgerHarness, ids: Sequence[int]) -> list[int]:
    rows = await bench.rows("SELECT epoch FROM queries WHERE id = ANY(:ids) ORDER BY id", ids=list(ids))
    return [row.epoch for row in rows]


def asking(fleet: Fleet) -> Fleet:
    """The LLM is asked about whatever the gate does not decide alone."""
    model = next(iter(fleet.models.values())).name
    return replace(
        fleet,
        router=replace(
            fleet.router, stages=("gate", "llm"), llm=LlmRouter(model=model, queries_per_call=4), classifier_sure=1.1
        ),
    )


def test_what_needs_no_call_is_routed_without_a_claim(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            ids = await queued(context)
            said: list[str] = []
            event.listen(bench.engine.sync_engine.pool, "checkout", lambda *_: said.append("a statement"))
            moved = await route(ids, context)
            assert sorted(moved) == sorted(ids)
            assert await epochs(bench, ids) == [0] * QUERIES
            assert len(said) == 3, "one that reads, one that concludes, and the test's own"

    on_bench(story)


def test_two_messages_of_the_same_queries_route_each_once(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            ids = await queued(context)
            one, other = await asyncio.gather(route(ids, context), route(ids, context))
            assert len(one) + len(other) == QUERIES
            decisions = await bench.rows("SELECT query_id FROM decisions WHERE kind = 'route'")
            assert sorted(row.query_id for row in decisions) == sorted(ids)

    on_bench(story)


def test_what_was_lost_is_claimed_before_it_is_decided(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            lost = await queued(context)
            assert await context.ledger.return_lost(ROUTE, older_than_s=-1.0, reason="a test") == QUERIES
            all_ids = await queued(context)
            moved = await route(all_ids, context)
            assert sorted(moved) == sorted(all_ids)
            assert await epochs(bench, lost) == [1] * QUERIES
            assert await epochs(bench, sorted(set(all_ids) - set(lost))) == [0] * QUERIES

    on_bench(story)


def test_what_a_worker_was_lost_with_is_claimed_before_it_is_decided(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            ids = await queued(context)
            hasty = Ledger(bench.engine, lease_s=0.0)
            await hasty.claim((ROUTE, ids[0], None))
            assert await hasty.rescue(as_of=await hasty.clock()) == (1, 0)
            assert sorted(await route(ids, context)) == sorted(ids)
            assert await epochs(bench, ids) == [2] + [0] * (QUERIES - 1)

    on_bench(story)


def test_whoever_asks_an_llm_holds_the_claim(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, asking(simulated_fleet(simulator.url))) as context:
            pinned = [line._replace(options=b'{"pin":"large"}') for line in query_corpus.lines("pinned", 4)]
            await hand_in(pinned, BatchSpec(source="test"), context)
            ids = await queued(context)
            one, other = await asyncio.gather(route(ids, context), route(ids, context))
            assert len(one) + len(other) == QUERIES + 4
            rows = await bench.rows(
                "SELECT q.epoch, d.router FROM queries AS q JOIN decisions AS d ON d.query_id = q.id"
                " WHERE d.kind = 'route'"
            )
            assert {row.epoch for row in rows if row.router == "pin"} == {0}
            asked = [row.epoch for row in rows if row.router != "pin"]
            assert asked
            assert set(asked) == {1}
            calls = await bench.rows("SELECT count(*) AS n FROM calls WHERE purpose = 'route'")
            # Had both asked about each of them, it would be twice as many.
            assert calls[0].n <= -(-len(asked) // 4) + 1

    on_bench(story)


def test_no_llm_is_asked_about_a_query_that_a_pilot_places(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, asking(simulated_fleet(simulator.url))) as context:
            order = BatchSpec(source="test", pilot=PilotSpec(0.9, max_queries=60))
            await hand_in(query_corpus.lines("p", 400), order, context)
            (taken,) = await Pilots(bench.engine).take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
            await decide_pilot(taken, context)
            ids = await context.ledger.fill_window(ROUTE, room=400)
            assert ids
            assert sorted(await route(ids, context, redelivered=True)) == sorted(ids)
            routers = await bench.rows("SELECT DISTINCT router FROM decisions WHERE kind = 'route'")
            assert [row.router for row in routers] == ["pilot"]
            assert await bench.rows("SELECT 1 FROM calls WHERE purpose = 'route'") == []

    on_bench(story)


def test_a_message_that_comes_again_is_claimed_first(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            ids = await queued(context)
            assert sorted(await route(ids, context, redelivered=True)) == sorted(ids)
            assert await epochs(bench, ids) == [1] * QUERIES

    on_bench(story)


def test_what_an_llm_was_asked_about_is_explored_too(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = asking(simulated_fleet(simulator.url))
        fleet = replace(fleet, router=replace(fleet.router, exploration=1.0))
        async with worker_context_of(bench, fleet) as context:
            ids = await queued(context)
            await route(ids, context)
            asked = await bench.rows(
                "SELECT d.query_id, d.tier, d.propensity FROM queries AS q JOIN decisions AS d ON d.query_id = q.id"
                " WHERE d.kind = 'route' AND q.epoch = 1"
            )
            assert asked
            assert [row.propensity for row in asked] == pytest.approx([1 / 3] * len(asked))
            assert {row.query_id: row.tier for row in asked} == {
                row.query_id: fleet.ladder[int(3 * exploration_draw(row.query_id))] for row in asked
            }

    on_bench(story)


def test_decisions_are_numbered_as_their_queries_came(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    """Whoever compares the first with the newest, as `pointsman drift` does, must not meet them sorted by tier."""

    async def story(bench: LedgerHarness) -> None:
        fleet = simulated_fleet(simulator.url)
        fleet = replace(fleet, router=replace(fleet.router, exploration=1.0))
        async with worker_context_of(bench, fleet) as context:
            ids = await queued(context)
            await route(ids, context)
            rows = await bench.rows("SELECT query_id, tier FROM decisions WHERE kind = 'route' ORDER BY id")
            assert len({row.tier for row in rows}) == 3
            assert [row.query_id for row in rows] == sorted(ids)

    on_bench(story)
