"""One tenant's batches against the feeder, on which those of all others wait."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import text

from db import ledger
from db import pilots as pilots_
from db.pilots import MOST_DECIDING, PILOT_PLACES, Pilots, TakenPilot
from db.provider_batches import MOST_STEPS, STEP_PLACES, ProviderBatches, TakenBatch
from db.worker_registry import WorkerRegistry
from routing.fleet import Fleet
from routing.lifecycle import ROUTE
from tasks import celery_tasks
from tasks.celery_tasks import WorkerState, decide_pilot_task, step_provider_batch_task
from tasks.feeder import feeder as feeding
from tasks.feeder.feeder import Feeder
from tasks.lanes import lane_maintenance
from tasks.lanes.lane_maintenance import WaveStarter
from tasks.lanes.lane_plans import LanePlans
from tasks.pilot import pilot_maintenance
from tasks.pilot.pilot_maintenance import advance_pilots
from tasks.worker_context import EventLoopThread, WorkerContext
from tests.attack.conftest import within
from tests.integration.end_to_end import hand_in, worker_context_of
from tests.integration.lane_fixtures import batching_fleet
from tests.integration.lane_fixtures import within as soon
from tests.integration.ledger_fixtures import LedgerHarness, OnBench, opened
from tests.integration.test_pilot import lines


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


def test_closing_a_neighbors_queries_locks_only_a_slice_of_them_at_a_time(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement locked 20,000 of them for a second, and others' answers that were committed with them waited."""
    monkeypatch.setattr(ledger, "CLOSED_AT_ONCE", 2)

    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(7)
        await bench.rows_as_owner("UPDATE batches SET expires_at = now() - interval '1 second'")
        async with worker_context_of(bench, bench.fleet) as context, bench.owner() as owner:
            feeder = Feeder(context, WorkerRegistry(bench.engine), None)
            async with owner.connect() as slow:  # as if a worker held the fourth
                await slow.execute(text("BEGIN"))
                await slow.execute(text("SELECT FROM queries WHERE id = :id FOR UPDATE"), {"id": ids[3]})
                closing = asyncio.create_task(feeder._close_batches())
                async with asyncio.timeout(20):
                    while (await bench.row(ids[0])).state != "expired":  # noqa: ASYNC110  # Postgres tells nobody
                        await asyncio.sleep(0.05)
                assert [(await bench.row(id_)).state for id_ in ids] == ["expired"] * 2 + ["ready"] * 5
                await slow.execute(text("ROLLBACK"))
            await closing
        assert {(await bench.row(id_)).state for id_ in ids} == {"expired"}

    on_bench(story)


def test_rounds_close_and_release_a_part_of_a_tenants_decided_pilots(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round closed all the rest of a `pointsman try`, a million queries, before it took another tenant's pilot."""
    monkeypatch.setattr(pilot_maintenance, "CLOSED_PER_TURN", 3)
    monkeypatch.setattr(pilots_, "RELEASED_AT_ONCE", 3)
    by_tenant = (
        "SELECT b.tenant, count(*) FILTER (WHERE q.state = 'cancelled') AS closed,"
        " count(*) FILTER (WHERE q.due_at <= now()) AS released"
        " FROM queries AS q JOIN batches AS b ON b.id = q.batch_id GROUP BY 1 ORDER BY 1"
    )

    async def story(bench: LedgerHarness) -> None:
        for tenant in ("neighbor", "neighbor", "other"):
            await bench.submit(5, tenant=tenant)
        await bench.rows("UPDATE queries SET due_at = 'infinity'")
        await bench.rows(
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, decided_at, stops)"
            " SELECT id, 0.9, 0.95, 1, 0, 'decided', now(), true FROM batches"
        )
        async with worker_context_of(bench, bench.fleet) as context:
            for closed in ((3, 3), (6, 5)):
                await advance_pilots(context)
                assert tuple(row.closed for row in await bench.rows(by_tenant)) == closed
            await bench.rows_as_owner("UPDATE pilots SET stops = false")
            await bench.rows_as_owner("UPDATE queries SET state = 'ready', finished_at = NULL")
            await advance_pilots(context)
            assert [row.released for row in await bench.rows(by_tenant)] == [4, 4], "about three, a part per batch"

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


def test_a_neighbors_provider_batches_and_pilots_are_worked_on_a_few_at_a_time(on_bench: OnBench) -> None:
    """Their messages stood before those of all queries that were to be routed: a thousand at once, each of seconds."""

    async def story(bench: LedgerHarness) -> None:
        for tenant, batches in (("neighbor", 20), ("other", 1)):
            for _ in range(batches):
                await bench.submit(1, tenant=tenant)
        await bench.rows(
            "INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries)"
            " SELECT id, 'small', 'd', 'p', 'm', 'm' || id, 'x', 1 FROM batches"
        )
        await bench.rows(
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state)"
            " SELECT id, 0.9, 0.95, 1, 0, 'sampling' FROM batches"
        )
        await bench.rows_as_owner("UPDATE queries SET state = 'done', finished_at = now()")
        of_tenants = "SELECT tenant, count(*) AS n FROM batches WHERE id = ANY(:ids) GROUP BY 1 ORDER BY 1"
        pilots, batches_ = Pilots(bench.engine), ProviderBatches(bench.engine)
        registry = WorkerRegistry(bench.engine)

        async def found(batch_ids: Sequence[int]) -> dict[str, int]:
            return {row.tenant: row.n for row in await bench.rows(of_tenants, ids=list(batch_ids))}

        async def decided() -> Sequence[int]:
            return [taken.batch_id for taken in await pilots.take_sampled(lease_s=60.0, simulated=None)]

        async def stepped() -> Sequence[int]:
            ids = [taken.id for taken in await batches_.take_due(lease_s=60.0, simulated=None)]
            rows = await bench.rows("SELECT batch_id FROM provider_batches WHERE id = ANY(:ids)", ids=ids)
            return [row.batch_id for row in rows]

        for take, places, most in ((decided, PILOT_PLACES, MOST_DECIDING), (stepped, STEP_PLACES, MOST_STEPS)):
            assert await found(await take()) == {"neighbor": places - 1, "other": 1}, "never all places of a worker"
            for _ in range(3):
                await registry.register(name="w", role="route fallback", host="h", pid=1, slots=1)
            assert await found(await take()) == {"neighbor": most - places + 1}
            assert await found(await take()) == {}
            await bench.rows("UPDATE workers SET stopped_at = now()")

    on_bench(story)


def test_tenants_together_have_no_more_steps_at_once_than_twice_the_places(on_bench: OnBench) -> None:
    """Those of a thousand tenants, eight of each, stood in the queue before the queries that were to be routed."""

    async def story(bench: LedgerHarness) -> None:
        for tenant in range(10):
            await bench.submit(1, tenant=f"tenant-{tenant}")
        await bench.rows(
            "INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries)"
            " SELECT id, 'small', 'd', 'p', 'm', 'm' || id, 'x', 1 FROM batches"
        )
        for most in (2 * STEP_PLACES, 0):
            assert len(await ProviderBatches(bench.engine).take_due(lease_s=60.0, simulated=None)) == most

    on_bench(story)


def test_a_round_plans_a_bounded_time_whatever_a_neighbor_has(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan takes 25 ms: those of a thousand batches held up all waves and polls of others for as many seconds."""
    monkeypatch.setattr(lane_maintenance, "PLANNING_S", 0.05)
    plan_of = LanePlans.of

    async def slow(self: LanePlans, *args: Any) -> Any:
        await asyncio.sleep(0.1)
        return await plan_of(self, *args)

    monkeypatch.setattr(LanePlans, "of", slow)

    async def story() -> None:
        fleet = batching_fleet("http://127.0.0.1:9")
        async with opened(database_url, fleet) as bench, worker_context_of(bench, fleet) as context:
            for _ in range(3):
                await hand_in(lines(1), soon(24), context)
            await bench.rows("UPDATE queries SET stage = 'small', due_at = now() + interval '20 h'")
            waves = WaveStarter(gather_s=0.0)
            for begun in (1, 2, 3):
                await waves.begin(context)
                assert len(await bench.rows("SELECT id FROM provider_batches")) == begun

    asyncio.run(story())


def test_the_review_that_ends_early_comes_to_each_tenant(on_bench: OnBench) -> None:
    """The first batches of all tenants stood in one order in each round: those of the last tenants had no review."""

    async def story(bench: LedgerHarness) -> None:
        for tenant in range(4):
            await bench.submit(1, tenant=f"tenant-{tenant}")
        await bench.rows_as_owner("UPDATE batches SET deadline = now() + interval '1 day'")
        await bench.rows_as_owner(
            "INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries,"
            " state, remote_id)"
            " SELECT id, 'small', 'd', 'p', 'm', 'm' || id, 'x', 1, 'submitted', 'r' || id FROM batches"
        )
        looks = [await ProviderBatches(bench.engine).under_way(simulated=None) for _ in range(20)]
        assert len({rows[0].batch_id for rows in looks}) > 1

    on_bench(story)


def test_a_worker_without_a_place_hands_pilots_and_provider_batches_back(
    database_url: str, shipped_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One took the messages of all and kept them, while other workers had places."""
    monkeypatch.setattr(celery_tasks, "PLACE_S", 0.05)
    loop = EventLoopThread()

    async def begin() -> tuple[AsyncExitStack, LedgerHarness, TakenBatch, TakenPilot]:
        stack = AsyncExitStack()
        bench = await stack.enter_async_context(opened(database_url, shipped_fleet))
        context = await stack.enter_async_context(worker_context_of(bench, shipped_fleet))
        monkeypatch.setattr(WorkerState, "context", context, raising=False)
        await bench.submit(1)
        await bench.rows(
            "INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries)"
            " SELECT id, 'small', 'd', 'p', 'm', 'm', 'x', 1 FROM batches"
        )
        await bench.rows(
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state)"
            " SELECT id, 0.9, 0.95, 1, 0, 'sampling' FROM batches"
        )
        (step,) = await ProviderBatches(bench.engine).take_due(lease_s=60.0, simulated=None)
        (pilot,) = await Pilots(bench.engine).take_sampled(lease_s=60.0, simulated=None)
        for places in (context.buying, context.deciding):
            while not places.locked():
                await places.acquire()
        return stack, bench, step, pilot

    async def taken_again(bench: LedgerHarness, step: TakenBatch, pilot: TakenPilot) -> None:
        await asyncio.gather(*WorkerState.context.background_tasks)
        (step_again,) = await ProviderBatches(bench.engine).take_due(lease_s=60.0, simulated=None)
        (pilot_again,) = await Pilots(bench.engine).take_sampled(lease_s=60.0, simulated=None)
        assert (step_again.id, pilot_again.batch_id) == (step.id, pilot.batch_id)
        for each in (Pilots(bench.engine).hand_back(pilot), ProviderBatches(bench.engine).hand_back(step)):
            await each  # the message comes twice, or late
        assert not await ProviderBatches(bench.engine).take_due(lease_s=60.0, simulated=None)
        assert not await Pilots(bench.engine).take_sampled(lease_s=60.0, simulated=None)

    monkeypatch.setattr(WorkerState, "loop", loop, raising=False)
    stack, bench, step, pilot = loop.run(begin())
    step_provider_batch_task(*step)
    decide_pilot_task(*pilot)
    loop.run(taken_again(bench, step, pilot))
    loop.run(stack.aclose())
    loop.close()


def test_a_provider_that_does_not_answer_for_provider_batches_takes_no_thread_from_routing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has four of them for all its messages, and the provider has two minutes for each request."""
    loop = EventLoopThread()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fleet = batching_fleet(f"http://127.0.0.1:{silent.getsockname()[1]}")

        async def submit() -> tuple[AsyncExitStack, WorkerContext, list[TakenBatch]]:
            stack = AsyncExitStack()
            bench = await stack.enter_async_context(opened(database_url, fleet))
            context = await stack.enter_async_context(worker_context_of(bench, fleet))
            await hand_in(lines(1), soon(24), context)
            await bench.rows("UPDATE queries SET stage = 'small', due_at = now() + interval '20 h'")
            await WaveStarter(gather_s=0.0).begin(context)
            return stack, context, await ProviderBatches(bench.engine).take_due(lease_s=60.0, simulated=None)

        stack, context, (taken,) = loop.run(submit())
        monkeypatch.setattr(WorkerState, "loop", loop, raising=False)
        monkeypatch.setattr(WorkerState, "context", context, raising=False)
        with within(5.0, "a message of a provider batch"):
            step_provider_batch_task(taken.id, taken.epoch)
        silent.settimeout(30)
        connection, _ = silent.accept()
        assert context.background_tasks, "a warm shutdown waits for it"
        connection.close()
        loop.run(stack.aclose())
        loop.close()
