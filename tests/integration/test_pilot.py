"""A batch with a quality floor: a random sample climbs every tier, and the rest follows the policy certified on it."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from api.dashboard.rolling_window import KEPT, STEP, RollingWindow
from db.audit_seals import seal_ended, verify
from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.ledger_types import CallIntent
from db.pilots import Pilots
from db.reports import run_report
from db.reports.batch_progress import batch_progress, find_batch
from db.reports.batch_quality import QualityFigures, outside_certificate, recent_quality
from db.reports.batch_stats import BatchFigures
from db.reports.batch_warnings import pilot_warnings
from db.reports.forecast_history import load_history
from db.reports.query_timeline import find_queries
from db.reports.workload import workload_figures
from db.workload_sums import sum_workloads
from routing.fleet import BudgetPolicy, Fleet
from routing.lifecycle import MoveKind, State
from routing.pilot import PilotSpec
from routing.price import Price
from settings import Settings
from simulator.process import SimulatorProcess
from submission.forecast_json import forecast_as_json
from submission.forecaster import Forecaster
from submission.input_line import InputLine
from tasks.batch_call import call_for_batch
from tasks.pilot.decide_pilot import DECISION_LEASE_S, decide_pilot
from tasks.pilot.pilot_certification import is_breached
from tasks.pilot.pilot_maintenance import advance_pilots
from tasks.worker_context import WorkerContext
from tests.integration.end_to_end import account, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

PIN = b'{"pin":"large"}'


def lines(count: int) -> list[InputLine]:
    return [
        InputLine(n + 1, f"q-{n}", b'{"messages":[{"role":"user","content":"What is %d plus %d?"}]}' % (n, n), None)
        for n in range(count)
    ]


async def decided(context: WorkerContext) -> None:
    """Works off the batch, with its pilot's decisions, until all of it has ended."""
    pilots = Pilots(context.engine)
    while True:
        await work_off(context)
        taken = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
        if not taken:
            break
        for one in taken:
            await decide_pilot(one, context)
        await pilots.release()
    await context.ledger.end_batches()


def test_a_pilot_without_names_of_workloads_finds_metadata_that_could_name_them(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        given = [
            line._replace(options=orjson.dumps({"metadata": {"id": n, "kind": "abc"[n % 3], "one": "x"}}))
            for n, line in enumerate(lines(60))
        ]
        async with worker_context_of(bench, simulated_fleet("http://127.0.0.1:9")) as context:
            batch = await hand_in(given, BatchSpec(source="test", pilot=PilotSpec(0.9)), context)
            await bench.rows_as_owner("UPDATE queries SET pilot = true")
            assert (await account(batch, context)).kinds == ("kind", 3)

    on_bench(story)


def test_a_sample_is_answered_by_every_tier_and_the_rest_waits_for_the_decision(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = simulated_fleet(simulator.url)
        async with worker_context_of(bench, fleet) as context:
            spec = BatchSpec(source="test", pilot=PilotSpec(floor=0.9, max_queries=60))
            named = b'{"metadata":{"workload":"sums"}}'
            batch = await hand_in([line._replace(options=named) for line in lines(400)], spec, context)
            pilots = Pilots(bench.engine)
            await work_off(context)
            assert await bench.rows("SELECT 1 FROM calls") == []
            (taken,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
            assert await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None) == []
            await decide_pilot(taken, context)
            await work_off(context)
            tiers = {
                row.query_id: row.tiers
                for row in await bench.rows(
                    "SELECT query_id, array_agg(DISTINCT tier) AS tiers FROM calls WHERE outcome = 'ok' GROUP BY 1"
                )
            }
            assert len(tiers) == 60
            assert all(set(found) == set(fleet.ladder) for found in tiers.values())
            waiting = await bench.rows("SELECT count(*) AS n FROM queries WHERE state = 'ready' AND stage = 'route'")
            assert waiting[0].n == 340
            await decided(context)
            figures = await account(batch, context)
            assert figures.progress.done == 400
            climbed = "SELECT count(*) AS n FROM queries WHERE escalations > 0"
            assert [row.n for row in await bench.rows(climbed + " AND pilot")] == [60]
            assert figures.progress.escalated == (await bench.rows(climbed + " AND NOT pilot"))[0].n
            assert await sum_workloads(bench.engine) == 1
            told = await workload_figures(bench.engine, "sums", tenant="default", simulated=True, days=1)
            (policy,) = told["versions"]
            assert policy["tiers"] == figures.progress.by_tier
            assert policy["cost_usd"] == pytest.approx(figures.cost_usd)
            assert policy["baseline_usd"] == pytest.approx(figures.baseline_cost_usd)
            assert policy["quality"]["measured"] == figures.quality.measured
            assert policy["sampled"] is None, "the batch has one workload, so its quality is that of the batch"
            quality = figures.quality
            assert quality is not None
            assert quality.certificate is not None
            assert quality.pilot_queries == 60
            assert len(quality.certificate["sample_ids"]) == 60
            sampled = [int(id_) for id_ in quality.certificate["sample_ids"]]
            assert sampled != list(range(min(sampled), min(sampled) + 60)), "the first queries are not a random sample"
            logged = await bench.rows("SELECT detail FROM decisions WHERE kind = 'certificate'")
            assert [row.detail for row in logged] == [quality.certificate]
            await seal_ended(bench.engine)
            assert not (await verify(bench.engine, batch.id)).findings

    on_bench(story)


@pytest.mark.parametrize("pilot", [PilotSpec(floor=0.8, max_queries=60, audit_share=0.0), None])
def test_the_dashboard_and_the_report_count_the_same_lengths_of_the_top_tiers_answers(
    on_bench: OnBench, simulator: SimulatorProcess, pilot: PilotSpec | None
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            batch = await hand_in(lines(300), BatchSpec(source="test", pilot=pilot), context)
            pilots = Pilots(bench.engine)
            for _ in ("sample", "certificate") if pilot is not None else ():
                await work_off(context)
                (taken,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
                await bench.rows_as_owner(
                    "UPDATE calls SET completion_tokens = 3 * completion_tokens + 1 WHERE tier = 'large'"
                )
                await decide_pilot(taken, context)
            await pilots.release()
            await work_off(context)
            figures = await account(batch, context)
            lengths = figures.baseline_lengths
            if pilot is not None:
                assert (lengths.own + lengths.pairs, lengths.assumed) == (300, 0)
                assert lengths.pairs > 100
            assert lengths.own < 200
            window = RollingWindow(bench.engine)
            while not window.is_whole:
                await window.refresh()
            hour = window.between(datetime.now(UTC) - KEPT, datetime.now(UTC) + STEP, tenant="default")
            assert sum(hour.answered.values()) == 300
            assert hour.baseline_usd == pytest.approx(figures.baseline_cost_usd, rel=1e-6)

    on_bench(story)


def test_a_batch_that_is_too_small_goes_by_the_default_policy(
    on_bench: OnBench, simulator: SimulatorProcess, settings: Settings
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            spec = BatchSpec(source="test", pilot=PilotSpec(floor=0.95, audit_share=1.0))
            batch = await hand_in(lines(30), spec, context, settings=settings)
            await decided(context)
            await advance_pilots(context)
            assert await bench.rows("SELECT 1 FROM audits") == []
            quality = (await account(batch, context)).quality
            assert quality is not None
            assert quality.certificate is not None
            assert (quality.certificate["outcome"], quality.pilot_queries) == ("too_small", 0)
            assert (await account(batch, context)).progress.done == 30
            assert batch.plan is not None
            (warning,) = batch.plan["warnings"]
            assert batch.plan["too_small"] in quality.certificate["reason"], "known before, and for the same reason"
            assert warning.startswith(f"no pilot: {batch.plan['too_small']}. The default policy routes the batch")

    on_bench(story)


def priced(fleet: Fleet, usd: Mapping[str, float]) -> Fleet:
    """The fleet with these prices of a million tokens, by tier, the same for prompts and answers."""
    models = {
        name: replace(model, price=Price(usd[model.tier], usd[model.tier], usd[model.tier], version="test"))
        if model.tier in usd
        else model
        for name, model in fleet.models.items()
    }
    return replace(fleet, models=models)


def test_a_batch_whose_pilot_cannot_pay_by_todays_prices_goes_by_the_default_policy(
    on_bench: OnBench, simulator: SimulatorProcess, settings: Settings
) -> None:
    async def story(bench: LedgerHarness) -> None:
        cheap = priced(simulated_fleet(simulator.url), {"small": 0.1, "medium": 0.3, "large": 3.0})
        close = priced(cheap, {"small": 2.7, "medium": 2.8})

        async def run(fleet: Fleet, most: int | None = None) -> tuple[BatchFigures, QualityFigures, Mapping[str, Any]]:
            async with worker_context_of(bench, fleet) as context:
                order = BatchSpec(source="sums.jsonl", pilot=PilotSpec(0.9, max_queries=most, audit_share=0.0))
                batch = await hand_in(lines(400), order, context, settings=settings)
                dry = Forecaster(settings, fleet, bench.engine, order)
                dry.sample.see_all(lines(400))
                forecast = forecast_as_json(await dry.forecast())
                assert batch.plan is not None
                assert batch.plan["skipped_pilot"] == forecast["skipped_pilot"], "dry run and submission decide alike"
                await decided(context)
                figures = await account(batch, context)
                assert figures.progress.done == 400
                assert figures.quality is not None
                return figures, figures.quality, batch.plan

        _, first, plan = await run(close)
        assert (first.pilot_queries > 0, plan["skipped_pilot"]) == (True, None), "nothing is known yet"
        figures, lost, plan = await run(close)
        assert (lost.pilot_queries, plan["pilot"], lost.standing) == (0, None, "no_gain")
        assert lost.certificate is not None
        assert lost.certificate["skipped_pilot"] == plan["skipped_pilot"]
        assert [lost.certificate["reason"]] == pilot_warnings(plan, None)
        assert figures.cost_usd <= 1.05 * plan["skipped_pilot"]["top_usd"] < plan["skipped_pilot"]["hoped_usd"]
        await seal_ended(bench.engine)
        batch = await find_batch(bench.engine, figures.progress.public_id)
        assert batch is not None
        assert not (await verify(bench.engine, batch.id)).findings
        _, forced, plan = await run(close, most=60)
        assert (forced.pilot_queries, plan["skipped_pilot"]) == (60, None), "the user asks for it"
        assert "with 400 queries this floor saves nothing" in pilot_warnings(plan, None)[0]
        past = await load_history(bench.engine, close, tenant="default", total=400, floor=0.9)
        assert len(past.policy_costs) == 2, "no pilot, no policy"
        assert await sum_workloads(bench.engine) == 3
        summed = await load_history(bench.engine, close, tenant="default", total=400, floor=0.9)
        assert [one.ratio for one in summed.policy_costs] == pytest.approx([one.ratio for one in past.policy_costs])
        _, paid, plan = await run(cheap)
        assert (paid.pilot_queries > 0, plan["skipped_pilot"]) == (True, None)
        past = await load_history(bench.engine, cheap, tenant="default", total=400, floor=0.9)
        assert len(past.policy_costs) == 1, "what policies cost at other prices says nothing of today's"
        batches = {tier: len(ratios) for tier, ratios in past.prompt_ratios.items()}
        assert batches == {"small": 1, "medium": 1, "large": 4}

    on_bench(story)


def test_a_pinned_query_keeps_its_pin_and_does_not_wait(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            pinned = lines(1)[0]._replace(options=b'{"pin":"large"}')
            batch = await hand_in([pinned, *lines(150)[1:]], BatchSpec(source="test", pilot=PilotSpec(0.9)), context)
            await work_off(context)
            done = await bench.rows("SELECT tier FROM queries WHERE state = 'done'")
            assert [row.tier for row in done] == ["large"]
            await decided(context)
            assert (await account(batch, context)).progress.done == 150

    on_bench(story)


def test_pinned_queries_of_a_large_batch_neither_wait_nor_are_sampled(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        for stops in (False, True):
            order = BatchSpec(source="test", pilot=PilotSpec(0.9, stops=stops))
            async with open_batch_writer(bench.engine, order, bench.fleet) as opened:
                assert isinstance(opened, BatchWriter)
                few = [(n + 1, f"q-{n}", b'{"messages":[]}', PIN if n < 2 else None) for n in range(5_001)]
                await opened.write(few)
            (batch,) = await bench.rows("SELECT id FROM batches WHERE public_id = :id", id=opened.public_id)
            (found,) = await bench.rows(
                "SELECT count(*) FILTER (WHERE due_at <= now()) AS due,"
                " count(*) FILTER (WHERE due_at = 'infinity') AS waiting FROM queries WHERE batch_id = :id",
                id=batch.id,
            )
            assert (found.due, found.waiting) == (0 if stops else 2, 4_999)
            pilot = await Pilots(bench.engine).find(batch.id)
            assert pilot is not None
            assert pilot.total == 4_999, "the policy has no say in pinned queries"

    on_bench(story)


def test_what_is_resumed_before_the_pilot_is_decided_waits_for_it_again(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        order = BatchSpec(source="test", pilot=PilotSpec(0.9))
        async with open_batch_writer(bench.engine, order, bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write([(n + 1, f"q-{n}", b'{"messages":[]}', PIN if n == 0 else None) for n in range(200)])
        (batch,) = await bench.rows("SELECT id FROM batches")
        pilots = Pilots(bench.engine)
        (taken,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
        await pilots.extend(taken, sample=50)
        assert await find_queries(bench.engine, "q-199"), "psycopg reads no infinity"
        await bench.ledger.close_queries(
            batch.id, move=MoveKind.EXPIRE, to_state=State.EXPIRED, actor="feeder", reason="too late"
        )
        assert await bench.ledger.resume(batch.id) == 200
        pilot = await pilots.find(batch.id)
        assert pilot is not None
        assert (pilot.sampled, pilot.waiting) == (50, 149), "the sample and what is pinned are due at once"
        progress = await batch_progress(bench.engine, batch.id)
        assert progress.after_pilot == 149

    on_bench(story)


def test_an_audit_that_shows_a_broken_floor_sends_the_rest_to_the_top(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        ids = await bench.submit(40)
        batch_id = (await bench.row(ids[0])).batch_id
        await bench.rows(
            "INSERT INTO pilots"
            " (batch_id, floor, confidence, seed, audit_share, state, certificate, policy, decided_at)"
            " VALUES (:id, 0.9, 0.95, 1, 1, 'decided', CAST(:certificate AS jsonb), CAST(:policy AS jsonb), now())",
            id=batch_id,
            certificate='{"accept_shares": [1.0, 0.0], "rest_share": 0.9}',
            policy='{"kind": "top"}',
        )
        pilots = Pilots(bench.engine)
        for query_id in ids:
            await pilots.add_audit(
                query_id=query_id, batch_id=batch_id, call_id=query_id, tier="small", grade=0.0, reference_grade=1.0
            )
        (audits,) = await pilots.open_audits()
        assert is_breached(audits)
        assert await pilots.breach(batch_id)
        assert not await pilots.breach(batch_id)
        assert (await pilots.policies([batch_id]))[batch_id].is_breached
        assert await pilots.open_audits() == []

    on_bench(story)


def test_a_decision_that_another_worker_has_taken_over_changes_nothing(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        order = BatchSpec(source="test", pilot=PilotSpec(0.9))
        async with open_batch_writer(bench.engine, order, bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write([(n + 1, f"q-{n}", b'{"messages":[]}', None) for n in range(200)])
        pilots = Pilots(bench.engine)
        (taken,) = await pilots.take_sampled(lease_s=0.0, simulated=None)
        first = await pilots.claim(taken, lease_s=0.0)
        assert first is not None
        assert await pilots.claim(taken, lease_s=60.0) is None, "the same message, delivered twice"
        (again,) = await pilots.take_sampled(lease_s=60.0, simulated=None)
        second = await pilots.claim(again, lease_s=60.0)
        assert second is not None
        await pilots.extend(first, sample=50)
        await pilots.decide(first, certificate={}, policy={"kind": "top"}, weights=None, confidence=0.95, reason="late")
        pilot = await pilots.find(first.batch_id)
        assert pilot is not None
        assert (pilot.state, pilot.sampled) == ("deciding", 0)
        await pilots.extend(second, sample=50)
        await pilots.extend(second, sample=50)
        pilot = await pilots.find(first.batch_id)
        assert pilot is not None
        assert (pilot.state, pilot.sampled, pilot.extensions) == ("sampling", 50, 1)

    on_bench(story)


def test_what_is_resumed_of_a_trial_is_answered_and_not_cancelled_again(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            spec = BatchSpec(source="test", pilot=PilotSpec(0.9, max_queries=50, stops=True))
            batch = await hand_in(lines(300), spec, context)
            await decided(context)
            await advance_pilots(context)
            await context.ledger.end_batches()
            progress = await batch_progress(bench.engine, batch.id)
            assert (progress.done, progress.cancelled) == (50, 250)
            async with bench.owner() as owner, owner.connect() as connection:
                first = "(SELECT min(id) FROM queries WHERE pilot)"
                await connection.execute(text(f"UPDATE queries SET state = 'failed' WHERE id = {first}"))
                await connection.execute(text(f"DELETE FROM answers WHERE query_id = {first}"))
            assert await bench.ledger.resume(batch.id) == 1
            await advance_pilots(context)
            await work_off(context)
            assert (await batch_progress(bench.engine, batch.id)).done == 50

    on_bench(story)


def test_what_waits_for_a_pilot_asks_for_no_more_workers(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        order = BatchSpec(source="test", pilot=PilotSpec(0.9))
        async with open_batch_writer(bench.engine, order, bench.fleet) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write([(n + 1, f"q-{n}", b'{"messages":[]}', None) for n in range(200)])
        pilots = Pilots(bench.engine)
        (taken,) = await pilots.take_sampled(lease_s=60.0, simulated=None)
        await pilots.extend(taken, sample=50)
        (stage,) = await run_report(bench.engine, "dashboard_open")
        assert (stage.stage, stage.ready) == ("route", 50)

    on_bench(story)


def test_an_audit_takes_a_slot_of_the_tier_that_it_calls(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = simulated_fleet(simulator.url)
        async with worker_context_of(bench, fleet) as context:
            batch = await hand_in(lines(1), BatchSpec(source="test"), context)
            model = fleet.deployments(fleet.top)[0]
            slot, free = context.slot(fleet.top), context.slot(fleet.top)._value
            body = {"messages": [{"role": "user", "content": "What is 2 plus 2?"}]}
            for _ in range(free):
                await slot.acquire()
            call = asyncio.create_task(call_for_batch(model, body, purpose="audit", batch_id=batch.id, context=context))
            await asyncio.sleep(0.1)
            assert await bench.rows("SELECT 1 FROM calls") == [], "no slot was free"
            slot.release()
            assert await call is not None
            (row,) = await bench.rows("SELECT purpose, outcome FROM calls")
            assert (row.purpose, row.outcome) == ("audit", "ok")
            for purpose, reserved_usd in (("audit", 0.25), ("answer", 0.5)):
                intent = CallIntent(
                    await bench.ledger.next_call_id(), purpose, fleet.top, model, reserved_usd, batch_id=batch.id
                )
                await bench.ledger.reserve_call(intent)
            progress = await batch_progress(bench.engine, batch.id)
            assert (progress.reserved_usd, progress.reserved_audit_usd) == (0.75, 0.25)

    on_bench(story)


def test_lines_that_may_not_cost_the_top_tier_are_outside_the_certificate_and_counted(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            capped = [
                line._replace(options=b'{"max_cost_usd":0.005}') if n % 4 == 0 else line
                for n, line in enumerate(lines(400))
            ]
            spec = BatchSpec(source="test", pilot=PilotSpec(0.9, max_queries=80, stops=True))
            batch = await hand_in(capped, spec, context)
            await decided(context)
            quality = (await account(batch, context)).quality
            assert quality is not None
            assert quality.certificate is not None
            unanswered = quality.certificate["unanswered"]
            assert 0 < quality.certificate["capped"] == unanswered < 60
            said = outside_certificate(quality.certificate)
            assert said.startswith(f"without an answer from large: {unanswered} of {quality.pilot_queries} sampled")
            assert f"{unanswered} of them with a max_cost_usd" in said

    on_bench(story)


@pytest.mark.parametrize("policy", [BudgetPolicy.DEGRADE, BudgetPolicy.FAIL])
def test_a_budget_that_the_policy_has_no_room_in_takes_the_promise_back(
    on_bench: OnBench, simulator: SimulatorProcess, policy: BudgetPolicy
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            pilot = PilotSpec(floor=0.8, max_queries=60, audit_share=0.0)
            spec = BatchSpec(source="test", pilot=pilot, cap_usd=100.0, budget_policy=policy)
            batch = await hand_in(lines(200), spec, context)
            pilots = Pilots(context.engine)
            for _ in ("sample", "certificate"):
                await work_off(context)
                (taken,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
                await decide_pilot(taken, context)
            before = (await account(batch, context)).quality
            assert before is not None
            assert before.standing == "certified"
            assert (await recent_quality(context.engine)).batches == {"certified": 1}
            (spent,) = await bench.rows("SELECT settled_usd FROM budgets")
            await bench.ledger.set_budget(batch.id, cap_usd=float(spent.settled_usd) + 0.0015)
            await pilots.release()
            await work_off(context)
            after = (await account(batch, context)).quality
            assert after is not None
            assert (after.standing, after.interval) == ("departed", None)
            assert (await recent_quality(context.engine)).batches == {"departed": 1}
            rest = "SELECT count(*) AS n FROM queries AS q WHERE NOT q.pilot"
            (best,) = await bench.rows(
                rest + " AND EXISTS (SELECT FROM answers AS a WHERE a.query_id = q.id AND NOT a.accepted)"
            )
            (failed,) = await bench.rows(rest + " AND q.state = 'failed'")
            assert after.departures == best.n + failed.n
            assert best.n > 0
            assert (failed.n > 0) is (policy is BudgetPolicy.FAIL)
            expired = await bench.ledger.close_queries(
                batch.id, move=MoveKind.EXPIRE, to_state=State.EXPIRED, actor="feeder", reason="too late"
            )
            assert (expired > 0) is (policy is BudgetPolicy.DEGRADE), "what not even the cheapest tier could pay for"
            ended = (await account(batch, context)).quality
            assert ended is not None
            assert ended.departures == after.departures + expired

    on_bench(story)


def test_a_batch_that_is_all_sample_ends_with_its_certificate(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(simulator.url)) as context:
            pilots = Pilots(context.engine)
            spec = BatchSpec(source="test", pilot=PilotSpec(0.9, stops=True))
            await hand_in(lines(20), spec, context)
            (first,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
            await decide_pilot(first, context)
            await work_off(context)
            assert await context.ledger.end_batches() == [], "its pilot is not decided"
            (taken,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
            await decide_pilot(taken, context)
            assert len(await context.ledger.end_batches()) == 1

    on_bench(story)
