"""A batch with a deadline is bought in provider batches, at half price, and ends as any other."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from db import provider_batches, sql
from db.provider_batches import BATCH_CLOSED, ProviderBatches, TakenBatch
from db.reports import run_report
from db.sql import statement
from db.tenants import Tenants
from routing.fleet import Model
from routing.lanes.lane import Lane
from routing.outcome import Usage
from tasks.lanes.lane_maintenance import WaveStarter, with_room
from tasks.lanes.provider_batch_step import step_provider_batch
from tasks.worker_context import WorkerContext
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.lane_fixtures import (
    batching_fleet,
    batching_simulator,
    buy,
    charged_usd,
    is_submitted,
    stuck_batch,
    within,
)
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_audit_seals import as_owner
from tests.integration.test_budget_guard import billed_usd
from tests.integration.test_pilot import lines


@pytest.mark.parametrize("lane", [Lane.BATCH, Lane.FLEX])
def test_a_batch_with_a_deadline_is_answered_at_half_price(on_bench: OnBench, tmp_path: Path, lane: Lane) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            fleet = batching_fleet(simulator.url, lanes=(lane, Lane.STANDARD))
            async with worker_context_of(bench, fleet) as context:
                batch = await hand_in(lines(120), within(24), context)
                await buy(context)
                figures = await account(batch, context)
                assert figures.progress.done == 120
                charged = await charged_usd(bench)
                assert charged == pytest.approx(billed_usd(tmp_path / "calls.jsonl", simulator), abs=1e-9)
                calls = await bench.rows("SELECT lane, deployment, prompt_tokens, completion_tokens FROM calls")
                assert len(calls) >= 120
                assert {call.lane for call in calls} == {lane.value}
                at_list = sum(
                    context.fleet.models[call.deployment].price.cost_usd(
                        Usage(prompt_tokens=call.prompt_tokens, completion_tokens=call.completion_tokens)
                    )
                    for call in calls
                )
                assert charged == pytest.approx(at_list / 2, abs=len(calls) * 1e-9)

    on_bench(story)


def test_the_texts_of_a_provider_batch_are_read_in_pages_of_bounded_size(
    on_bench: OnBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    run_statement = sql.fetch

    async def noting(*args: Any, **params: Any) -> Any:
        rows = await run_statement(*args, **params)
        read.append(sum(len(row._mapping.get("body") or "") for row in rows))
        return rows

    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            async with worker_context_of(bench, batching_fleet(simulator.url)) as context:
                batch = await hand_in(lines(12), within(24), context)
                (texts,) = await bench.rows("SELECT max(octet_length(CAST(body AS text))) AS longest FROM prompts")
                monkeypatch.setattr(provider_batches, "WAITING_BYTES", 4 * texts.longest)
                monkeypatch.setattr(sql, "fetch", noting)
                await buy(context)
                assert (await account(batch, context)).progress.done == 12
                assert {call.lane for call in await bench.rows("SELECT lane FROM calls")} == {Lane.BATCH.value}
                assert 0 < max(read) <= 4 * texts.longest
                assert len(await bench.rows("SELECT 1 FROM provider_batches WHERE queries = 12")) == 1

    on_bench(story)


def test_what_is_stuck_is_cancelled_and_bought_at_standard_before_the_deadline(
    on_bench: OnBench, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with stuck_batch(bench, tmp_path, queries=60) as (simulator, context, batch):
            await asyncio.sleep(1.5)
            await as_owner(bench, "UPDATE batches SET deadline = now() + interval '320 seconds'")
            await buy(context)
            assert (await account(batch, context)).progress.done == 60
            charged = await charged_usd(bench)
            assert charged == pytest.approx(billed_usd(tmp_path / "calls.jsonl", simulator), abs=1e-9)
            (calls,) = await bench.rows(
                "SELECT count(*) FILTER (WHERE lane = 'batch' AND outcome = 'ok') AS batched,"
                " count(*) FILTER (WHERE outcome = 'not_run') AS not_run,"
                " count(*) FILTER (WHERE lane IS NULL AND outcome = 'ok' AND tier = 'medium') AS direct FROM calls"
            )
            assert calls.batched
            assert calls.not_run == calls.direct > 0  # nothing is paid twice

    on_bench(story)


def test_a_cancelled_batch_settles_what_its_provider_had_answered(on_bench: OnBench, tmp_path: Path) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with stuck_batch(bench, tmp_path, queries=60, cap_usd=1.0) as (simulator, context, batch):
            await asyncio.sleep(1.5)
            assert await context.ledger.cancel(batch.id) == 60
            await buy(context)
            charged = await charged_usd(bench)
            assert charged == pytest.approx(billed_usd(tmp_path / "calls.jsonl", simulator), abs=1e-9)
            (budget,) = await bench.rows("SELECT reserved_usd, settled_usd FROM budgets WHERE batch_id IS NOT NULL")
            assert (float(budget.reserved_usd), float(budget.settled_usd)) == (0.0, pytest.approx(charged))

    on_bench(story)


async def step_once(context: WorkerContext) -> None:
    """What is due of each provider batch, which is then due again."""
    for taken in await ProviderBatches(context.engine).take_due(lease_s=60.0, simulated=None):
        await step_provider_batch(taken, context)


def test_a_paused_batch_buys_no_provider_batch(on_bench: OnBench, tmp_path: Path) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            async with worker_context_of(bench, batching_fleet(simulator.url)) as context:
                batch = await hand_in(lines(8), within(24), context)
                await work_off(context)
                assert await context.ledger.pause(batch.id)
                starter = WaveStarter(gather_s=0.0, gap_s=0.0)
                await starter.begin(context)
                assert await bench.rows("SELECT 1 FROM provider_batches") == []
                # Begun before the pause, and not bought yet: it waits.
                assert await context.ledger.unpause(batch.id)
                await starter.begin(context)
                assert await context.ledger.pause(batch.id)
                await step_once(context)
                assert {row.state for row in await bench.rows("SELECT state FROM provider_batches")} == {"forming"}
                assert await bench.rows("SELECT 1 FROM calls WHERE lane = 'batch'") == []
                assert await context.ledger.unpause(batch.id)
                await as_owner(bench, "UPDATE provider_batches SET due_at = now()")
                await buy(context)
                assert {row.lane for row in await bench.rows("SELECT lane FROM calls")} == {"batch"}

    on_bench(story)


def test_what_is_stopped_is_waited_for_until_standard_needs_the_time(on_bench: OnBench, tmp_path: Path) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path, cancel_s=3e6) as simulator:
            simulator.control(faults=[{"kind": "batch_stuck"}])
            async with worker_context_of(bench, batching_fleet(simulator.url)) as context:
                await hand_in(lines(8), within(24), context)
                await buy(context, until=is_submitted)
                due = "UPDATE provider_batches SET due_at = now()"
                await as_owner(bench, f"{due}, give_up_at = now()")
                await step_once(context)
                (row,) = await bench.rows("SELECT DISTINCT state, give_up_at FROM provider_batches")
                assert (row.state, row.give_up_at) == ("cancelling", None)
                await WaveStarter(gather_s=0.0).begin(context)
                (row,) = await bench.rows(
                    "SELECT min(give_up_at) > now() + interval '12 hours' AS waits FROM provider_batches"
                )
                assert row.waits
                states = "SELECT DISTINCT state FROM queries"
                await as_owner(bench, f"{due}, cancelling_at = now() - interval '1 hour'")
                await step_once(context)
                assert {row.state for row in await bench.rows(states)} == {"batched"}
                await as_owner(bench, f"{due}, give_up_at = now()")
                await step_once(context)
                assert {row.state for row in await bench.rows(states)} == {"ready"}

    on_bench(story)


def test_while_its_batch_is_paused_a_provider_batch_is_waited_for_past_the_deadline(
    on_bench: OnBench, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with stuck_batch(bench, tmp_path) as (_, context, batch):
            assert await context.ledger.pause(batch.id)
            await as_owner(bench, "UPDATE batches SET deadline = now() - interval '1 second'")
            late = "UPDATE provider_batches SET due_at = now(), give_up_at = now()"
            await as_owner(bench, late)
            await step_once(context)
            states = "SELECT DISTINCT state FROM provider_batches"
            assert {row.state for row in await bench.rows(states)} == {"submitted"}
            assert await context.ledger.unpause(batch.id)
            await as_owner(bench, late)
            await step_once(context)
            assert {row.state for row in await bench.rows(states)} <= {"cancelling", "done"}

    on_bench(story)


def test_the_newest_ages_of_a_provider_are_read_by_its_index(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (query_id,) = await bench.submit(1)
        batch_id = (await bench.row(query_id)).batch_id
        await as_owner(
            bench,
            "INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries,"
            " state, outcome, remote_id, submitted_at, ended_at, done_at)"
            f" SELECT {batch_id}, 'small', 'd', 'p' || mod(n, 3), 'm', 'k' || n, 'r', 1,"
            " 'done', 'ended', 'i' || n, now() - interval '1 hour', now(), now() FROM generate_series(1, 20000) AS n",
        )
        await bench.rows_as_owner("ANALYZE provider_batches")
        ages = await ProviderBatches(bench.engine).ages(simulated=None)
        assert {provider: len(found) for provider, found in ages.items()} == {"p0": 100, "p1": 100, "p2": 100}
        async with bench.engine.connect() as connection:
            explained = text("EXPLAIN " + str(statement("lanes_ages")))
            plan = (await connection.execute(explained, {"simulated": None, "newest": 100})).scalars().all()
        assert not [line for line in plan if "Seq Scan on provider_batches" in line], plan

    on_bench(story)


@pytest.mark.parametrize("cause", ["deadline", "deployment"])
def test_what_is_not_bought_when_it_cannot_be_any_more_goes_back(on_bench: OnBench, tmp_path: Path, cause: str) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            async with worker_context_of(bench, batching_fleet(simulator.url)) as context:
                batch = await hand_in(lines(8), within(24), context)
                await work_off(context)
                await WaveStarter(gather_s=0.0).begin(context)
                simulator.control(faults=[{"kind": "batch_rate_limited"}])
                await step_once(context)
                uploaded = await bench.rows("SELECT state, file_id FROM provider_batches")
                assert {row.state for row in uploaded} == {"uploaded"}
                await as_owner(bench, "UPDATE provider_batches SET due_at = now()")
                if cause == "deadline":
                    await as_owner(bench, "UPDATE batches SET deadline = now() + interval '200 seconds'")
                else:
                    context.fleet = replace(context.fleet, models={})
                await step_once(context)
                (row,) = await bench.rows("SELECT DISTINCT state, outcome FROM provider_batches")
                assert (row.state, row.outcome) == ("done", "unsent")
                (row,) = await bench.rows(
                    "SELECT count(*) FILTER (WHERE state = 'ready' AND due_at <= now()) AS due, count(*) AS queries"
                    " FROM queries"
                )
                assert row.due == row.queries == 8
                vain = await run_report(bench.engine, "batch_unanswered_lanes", batch_id=batch.id, closed=BATCH_CLOSED)
                why = {"deadline": "the deadline is near", "deployment": "its deployment is not in the fleet"}[cause]
                assert {row.cause for row in vain} == {why}
                assert sum(row.queries for row in vain) == 8
                assert {float(row.usd) for row in await bench.rows("SELECT reserved_usd AS usd FROM budgets")} <= {0.0}
                assert await charged_usd(bench) == 0
                if cause == "deadline":  # else the provider is not reachable
                    async with httpx.AsyncClient(base_url=f"{simulator.url}/openai/v1/files/") as client:
                        assert [(await client.get(row.file_id)).status_code for row in uploaded] == [404] * len(
                            uploaded
                        )

    on_bench(story)


def test_a_provider_batch_of_a_tier_without_its_lane_any_more_stops_no_feeder(
    on_bench: OnBench, tmp_path: Path
) -> None:
    async def story(bench: LedgerHarness) -> None:
        with batching_simulator(tmp_path) as simulator:
            simulator.control(faults=[{"kind": "batch_stuck"}])
            fleet = batching_fleet(simulator.url)
            async with worker_context_of(bench, fleet) as context:
                await hand_in(lines(8), within(24), context)
                await buy(context, until=is_submitted)
                flex = batching_fleet(simulator.url, lanes=(Lane.FLEX, Lane.STANDARD))
                for lacking in (flex, replace(flex, tiers={"large": replace(fleet.tiers["large"], escalates_to=None)})):
                    context.fleet = lacking
                    await WaveStarter(gather_s=0.0).begin(context)

    on_bench(story)


def test_a_refused_answer_is_one_that_its_provider_counts(on_bench: OnBench, tmp_path: Path) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with stuck_batch(bench, tmp_path) as (_, _, batch):
            (batch,) = await bench.rows("SELECT id, epoch FROM provider_batches WHERE state = 'submitted' LIMIT 1")
            ended = (("ok", "200"), ("safety", "200"), ("safety", "400"), ("not_run", "NULL"))
            for outcome, status in ended:
                await as_owner(
                    bench,
                    f"UPDATE calls SET outcome = '{outcome}', status = {status}, cost_usd = 0, finished_at = now()"
                    " WHERE id = (SELECT min(id) FROM calls"
                    f" WHERE outcome IS NULL AND provider_batch_id = {batch.id})",
                )
            batches = ProviderBatches(bench.engine)
            assert (await batches.count_lines(TakenBatch(batch.id, batch.epoch))).succeeded == 2
            (row,) = await bench.rows(f"SELECT answered FROM provider_batches WHERE id = {batch.id}")
            assert row.answered == 1
            # How long a simulated one takes says nothing of a real one.
            assert set(await batches.ages(simulated=True)) == {"openai"}
            assert await batches.ages(simulated=False) == {}

    on_bench(story)


def test_a_wave_goes_to_the_first_deployment_with_room_and_past_one_that_gave_its_tier_nothing(
    on_bench: OnBench,
) -> None:
    async def story(bench: LedgerHarness) -> None:
        models = tuple(replace(model, lanes=(Lane.BATCH,)) for model in bench.fleet.deployments("small")[:2])
        batches = ProviderBatches(bench.engine)
        (query_id,) = await bench.submit(1)
        tier = SimpleNamespace(batch_id=(await bench.row(query_id)).batch_id, tier="small", tenant="default")

        async def chosen(*offered: Model) -> str | None:
            found = await with_room(tier, offered, {tier.tenant}, batches)
            return None if found is None else found[0].name

        assert await chosen(*models) == models[0].name
        assert await batches.begin(tier.batch_id, models[0], reason="cheapest", max_queries=10)
        full = replace(models[0], batch_limits=replace(models[0].batch_limits, max_enqueued_tokens=100))
        await as_owner(bench, "UPDATE provider_batches SET tokens = 100")
        assert await chosen(full, models[1]) == models[1].name
        assert await chosen(full) is None
        await as_owner(
            bench,
            "UPDATE provider_batches SET state = 'done', submitted_at = now(), done_at = now(), outcome = 'expired'",
        )
        assert await chosen(*models) == models[1].name
        assert await chosen(models[0]) == models[0].name, "better than none"

    on_bench(story)


def test_a_tenants_backlog_leaves_tokens_of_a_batch_lane_to_others(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batches = ProviderBatches(bench.engine)
        (model,) = (replace(each, lanes=(Lane.BATCH,)) for each in bench.fleet.deployments("small")[:1])
        model = replace(model, batch_limits=replace(model.batch_limits, max_enqueued_tokens=900))

        async def fill(tenant: str, waiting: set[str]) -> int:
            """The tenant has wave after wave enqueued, as long as there is room."""
            taken = 0
            for _ in range(10):
                (query_id,) = await bench.submit(1, tenant=tenant)
                row = SimpleNamespace(batch_id=(await bench.row(query_id)).batch_id, tier="small", tenant=tenant)
                if (found := await with_room(row, (model,), waiting, batches)) is not None:
                    tokens = min(100, found[1] or 0)
                    await batches.begin(row.batch_id, model, reason="r", max_queries=10, max_tokens=tokens)
                    taken += tokens
            await as_owner(
                bench,
                "UPDATE provider_batches SET state = 'submitted', remote_id = 'r', tokens = max_tokens"
                " WHERE state = 'forming'",
            )
            return taken

        assert await fill("greedy", {"greedy"}) == 900, "where there are no others, all of it"
        await as_owner(bench, "UPDATE provider_batches SET state = 'done', done_at = now()")
        await Tenants(bench.engine).create_key(tenant="other", name="test")
        assert await fill("greedy", {"greedy"}) == 450
        assert await fill("greedy", {"greedy", "other"}) == 0
        assert await fill("other", {"greedy", "other"}) == 450

    on_bench(story)


def test_tenants_take_turns_at_waves(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for tenant in ("greedy", "greedy", "greedy", "other"):
            await bench.submit(1, tenant=tenant, priority=100 if tenant == "greedy" else 0)
        await bench.rows("UPDATE queries SET stage = 'small', due_at = now() + interval '1 hour'")
        await as_owner(bench, "UPDATE batches SET deadline = now() + id * interval '1 hour'")
        waiting = await ProviderBatches(bench.engine).waiting(["small"], simulated=None)
        assert [row.tenant for row in waiting] == ["greedy", "other", "greedy", "greedy"]

    on_bench(story)
