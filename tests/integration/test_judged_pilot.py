"""A pilot whose free text is graded by a model: its calls in the ledger, each verdict paid once, whatever is lost."""

import asyncio
import math
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from db.batch_writer import BatchSpec
from db.label_store import Label, answered, label, sample_to_label, texts_to_label
from db.pilots import Pilots, TakenPilot
from db.reports.batch_progress import Batch
from db.reports.json_views import cost_usd
from db.reports.query_timeline import query_events
from evaluation.graders.llm_judge import PAIRS_PER_CALL
from routing.fleet import BudgetPolicy, Fleet, Grading
from routing.pilot import GraderChoice, PilotSpec
from settings import ROOT
from simulator.process import SimulatorProcess
from submission.input_line import InputLine, InvalidInput
from tasks.pilot import decide_pilot as decision
from tasks.pilot import judging
from tasks.pilot.answer_audit import audit_answer
from tasks.pilot.decide_pilot import DECISION_LEASE_S, decide_pilot
from tasks.pilot.grading import PAIRS_TO_LABEL
from tasks.pilot.judging import known_verdicts
from tasks.worker_context import WorkerContext
from tests.integration.end_to_end import account, certificate_of, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_pilot import decided

JUDGED = PilotSpec(floor=0.8, max_queries=60, grader=GraderChoice.JUDGE)

WORKER = """
import asyncio, sys
from dataclasses import replace
from db.engine import make_engine
from db.pilots import TakenPilot
from tasks.pilot.decide_pilot import decide_pilot
from tests.integration.end_to_end import worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness
from tests.integration.test_judged_pilot import judged_fleet

async def work(url, database_url, batch_id, epoch):
    fleet = judged_fleet(url)
    async with worker_context_of(LedgerHarness(make_engine(database_url), fleet), fleet) as context:
        await decide_pilot(TakenPilot(int(batch_id), int(epoch)), context)

asyncio.run(work(*sys.argv[1:]))
"""


def judged_fleet(simulator_url: str) -> Fleet:
    """Two calls of the judge at a time."""
    fleet = simulated_fleet(simulator_url)
    tiers = {**fleet.tiers, "medium": replace(fleet.tiers["medium"], concurrency=2)}
    return replace(fleet, tiers=tiers, quality=Grading(judge="gpt-5-mini"))


def lines(count: int) -> list[InputLine]:
    text = b'{"messages":[{"role":"user","content":"Describe the town number %d in a few sentences."}]}'
    return [InputLine(n + 1, f"q-{n}", text % n, None) for n in range(count)]


async def sampled(context: WorkerContext, count: int = 300, **options: Any) -> tuple[Batch, TakenPilot]:
    """A batch whose sample is answered, and whose pilot is taken for its decision."""
    batch = await hand_in(lines(count), BatchSpec(source="test", pilot=JUDGED, **options), context)
    pilots = Pilots(context.engine)
    (first,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
    await decide_pilot(first, context)
    await work_off(context)
    (taken,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
    return batch, taken


async def asked_in_vain(bench: LedgerHarness) -> int:
    """How often a pair was asked about in an order that a reply in the ledger already covered."""
    rows = await bench.rows(
        "SELECT g.pair, g.reference_first FROM grades AS g JOIN calls AS c ON c.id = g.call_id"
        " WHERE c.outcome = 'ok' AND c.response IS NOT NULL"
    )
    return sum(count - 1 for count in Counter((row.pair, row.reference_first) for row in rows).values())


def test_free_text_is_judged_in_both_orders_several_pairs_to_a_call_and_paid_in_the_ledger(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, judged_fleet(simulator.url)) as context:
            batch, taken = await sampled(context, cap_usd=5.0)
            await decide_pilot(taken, context)
            calls = await bench.rows("SELECT * FROM calls WHERE purpose = 'grade'")
            assert {(row.outcome, row.deployment, row.query_id) for row in calls} == {("ok", "gpt-5-mini", None)}
            assert all(row.budget_ids for row in calls), "they are within the batch's budget"
            orders = Counter(row.reference_first for row in await bench.rows("SELECT reference_first FROM grades"))
            assert orders[True] == orders[False] > 60
            assert len(calls) == 2 * -(-orders[True] // PAIRS_PER_CALL)
            assert await asked_in_vain(bench) == 0
            figures = await account(batch, context)
            assert figures.quality is not None
            assert figures.quality.certificate is not None
            judge = figures.quality.certificate["judge"]
            assert (judge["pairs"], judge["abstained"]) == (orders[True], 0)
            spent = float(sum(row.cost_usd for row in calls))
            assert figures.quality.certificate["grading_usd"] == pytest.approx(spent)
            assert figures.quality.grade_usd == pytest.approx(spent)
            grader = figures.quality.certificate["grader"]
            assert grader["mix"] == {"judge": figures.quality.pilot_queries}
            assert 0.0 < grader["missed"] < 0.5
            (budget,) = await bench.rows("SELECT reserved_usd FROM budgets WHERE batch_id = :id", id=batch.id)
            assert budget.reserved_usd == 0
            await label_as_the_judge(judge["to_label"], batch, context)

    on_bench(story)


async def label_as_the_judge(pairs: list[dict[str, Any]], batch: Batch, context: WorkerContext) -> None:
    """People see both answers of each pair, and agree with the judge on all but the first."""
    assert len(pairs) == PAIRS_TO_LABEL
    offered = await sample_to_label(context.engine, "default", by="judged", rows=100)
    known = await answered(context.engine, batch.id, [row.custom_id for row in offered])
    ids = {custom_id: row.query_id for custom_id, row in known.items()}
    sides = {(pair["query_id"], tier) for pair in pairs for tier in (pair["tier"], pair["reference"])}
    assert {(ids[row.custom_id], row.tier) for row in offered} == sides
    assert all(shown.answer and shown.messages for shown in await texts_to_label(context.engine, offered))
    wrong = {(pair["query_id"], pair["tier"]) for pair in pairs if pair["loss"] > 0}
    better = {(pair["query_id"], pair["reference"]) for pair in pairs if pair["loss"] < 0}
    same = next(pair for pair in pairs if pair["loss"] == 0)
    labels = [Label(id_, tier, float((id_, tier) not in wrong | better)) for id_, tier in sides]
    await label(context.engine, labels, source="web-uncertain", said_by="test")
    found = (await account(batch, context)).quality
    assert found is not None
    assert found.judge_agreement is not None
    assert (found.judge_agreement.labeled, found.judge_agreement.agreed) == (len(pairs), len(pairs))
    await label(context.engine, [Label(same["query_id"], same["tier"], 0.0)], source="web-uncertain", said_by="test")
    found = (await account(batch, context)).quality
    assert found is not None
    assert found.judge_agreement is not None
    assert found.judge_agreement.agreed == len(pairs) - 1
    assert await sample_to_label(context.engine, "default", by="judged", rows=100) == []


def test_a_worker_that_is_killed_in_the_middle_has_no_verdict_paid_twice(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, judged_fleet(simulator.url)) as context:
            _, taken = await sampled(context)
            simulator.control(latency={"shape": "fixed", "ms": 150})
            url = bench.engine.url.render_as_string(hide_password=False)
            asked = (simulator.url, url, str(taken.batch_id), str(taken.epoch))
            environ = {**os.environ, "PYTHONPATH": str(ROOT)}
            worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, *asked, cwd=ROOT, env=environ)
            count = "SELECT count(*) AS n FROM calls WHERE purpose = 'grade' AND outcome = 'ok'"
            while (await bench.rows(count))[0].n < 4:
                assert worker.returncode is None
                await asyncio.sleep(0.02)
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
            simulator.control(latency={"shape": "fixed", "ms": 0})
            pilots = Pilots(bench.engine)
            assert await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None) == [], "its lease still holds"
            known = await known_verdicts(taken.batch_id, context)
            assert known
            await bench.rows("UPDATE pilots SET lease_until = now() - interval '1 second'")
            (again,) = await pilots.take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
            await decide_pilot(again, context)
            assert await asked_in_vain(bench) == 0
            pilot = await pilots.find(taken.batch_id)
            assert pilot is not None
            assert pilot.state == "decided"
            (certificate,) = await bench.rows("SELECT certificate FROM pilots")
            assert certificate.certificate["judge"]["abstained"] == 0
            open_calls = await bench.rows("SELECT 1 FROM calls WHERE outcome IS NULL")
            assert len(open_calls) <= 2, "those that were under way when it was killed"

    on_bench(story)


def test_a_worker_whose_decision_another_has_taken_sends_no_more(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "WAIT_S", 0.0)

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, judged_fleet(simulator.url)) as context:
            _, taken = await sampled(context)
            simulator.control(latency={"shape": "fixed", "ms": 100})
            late = asyncio.create_task(decide_pilot(taken, context))
            count = "SELECT count(*) AS n FROM calls WHERE purpose = 'grade'"
            while (await bench.rows(count))[0].n < 2:
                assert not late.done()
                await asyncio.sleep(0.01)
            await bench.rows("UPDATE pilots SET lease_until = now() - interval '1 second'")
            (again,) = await Pilots(bench.engine).take_sampled(lease_s=DECISION_LEASE_S, simulated=None)
            await late
            assert (await bench.rows(count))[0].n <= 4
            simulator.control(latency={"shape": "fixed", "ms": 0})
            pilot = await Pilots(bench.engine).find(taken.batch_id)
            assert pilot is not None
            assert pilot.state == "deciding", "what it made of the rest counts for nothing"
            await decide_pilot(again, context)
            assert await asked_in_vain(bench) == 0

    on_bench(story)


@pytest.mark.parametrize("fault", [{"kind": "500"}, {"kind": "wrong_answer_shape"}])
def test_a_judge_that_fails_abstains_and_nothing_is_certified(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setattr(judging, "WAIT_S", 0.0)

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, judged_fleet(simulator.url)) as context:
            batch, taken = await sampled(context)
            simulator.control(faults=[fault | {"model": "gpt-5-mini"}])
            await decide_pilot(taken, context)
            simulator.control(faults=[])
            certificate = await certificate_of(batch, context)
            assert certificate["outcome"] == "top_tier"
            assert certificate["judge"]["abstained"] > 60
            assert certificate["judge"]["pairs"] == 0
            assert "fix: set judge in [quality] to a model" in certificate["reason"]

    on_bench(story)


def test_a_judge_that_says_nothing_usable_is_not_paid_for_the_whole_sample(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "read_verdicts", lambda text, count: None)

    async def story(bench: LedgerHarness) -> None:
        fleet = judged_fleet(simulator.url)
        async with worker_context_of(bench, fleet) as context:
            _, taken = await sampled(context)
            await decide_pilot(taken, context)
            (paid,) = await bench.rows("SELECT count(*) AS n FROM calls WHERE purpose = 'grade' AND outcome = 'ok'")
            slots = fleet.tiers["medium"].concurrency
            assert judging.MOST_UNUSABLE <= paid.n < judging.MOST_UNUSABLE + slots
            pilot = await Pilots(context.engine).find(taken.batch_id)
            assert pilot is not None
            assert pilot.state == "decided"

    on_bench(story)


def test_what_the_budget_has_no_room_for_is_not_judged(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "WAIT_S", 0.0)

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, judged_fleet(simulator.url)) as context:
            batch, taken = await sampled(context, cap_usd=5.0, budget_policy=BudgetPolicy.HOLD)
            await bench.rows("UPDATE budgets SET cap_usd = settled_usd WHERE batch_id = :id", id=batch.id)
            await decide_pilot(taken, context)
            assert await bench.rows("SELECT 1 FROM calls WHERE purpose = 'grade'") == []
            certificate = await certificate_of(batch, context)
            assert certificate["outcome"] == "top_tier"
            assert certificate["judge"]["abstained"] == 0
            assert certificate["reason"].startswith("the budget does not cover the judge's calls about ")

    on_bench(story)


def test_calls_of_the_judge_wait_for_the_reservations_of_others(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "ATTEMPTS", 1)
    monkeypatch.setattr(judging, "PAIRS_PER_CALL", 2)

    async def story(bench: LedgerHarness) -> None:
        fleet = judged_fleet(simulator.url)
        medium = replace(fleet.tiers["medium"], concurrency=24)
        fleet = replace(fleet, tiers={**fleet.tiers, "medium": medium})
        async with worker_context_of(bench, fleet) as context:
            batch, taken = await sampled(context, cap_usd=5.0, budget_policy=BudgetPolicy.HOLD)
            # A reply of 2,048 tokens costs $0.004, which is reserved, and a verdict less than a tenth of that.
            await bench.rows("UPDATE budgets SET cap_usd = settled_usd + 0.04 WHERE batch_id = :id", id=batch.id)
            simulator.control(latency={"shape": "fixed", "ms": 30})
            await decide_pilot(taken, context)
            simulator.control(latency={"shape": "fixed", "ms": 0})
            (asked,) = await bench.rows("SELECT sum(reserved_usd) AS usd FROM calls WHERE purpose = 'grade'")
            assert asked.usd > 0.1, "at once, the calls would have reserved more than there is"
            certificate = await certificate_of(batch, context)
            judge = certificate["judge"]
            assert (judge["abstained"], judge["unpaid"]) == (0, 0)
            assert judge["pairs"] > 60

    on_bench(story)


def test_audits_are_judged_as_the_sample_was(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "WAIT_S", 0.0)

    async def story(bench: LedgerHarness) -> None:
        fleet = judged_fleet(simulator.url)
        async with worker_context_of(bench, fleet) as context:
            batch = await hand_in(lines(3), BatchSpec(source="test"), context)
            await bench.rows(
                "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, policy, decided_at)"
                " VALUES (:id, 0.9, 0.95, 1, 1, 'decided', CAST(:policy AS jsonb), now())",
                id=batch.id,
                policy='{"kind": "default", "grader": "judge"}',
            )
            ids = [row.id for row in await bench.rows("SELECT id FROM queries ORDER BY id")]
            *queued, refused = await context.ledger.waiting("route", ids)
            for one in queued:
                for left_usd in (0.0, math.inf):  # of what the line may cost
                    await audit_answer(
                        one,
                        one.to_query(),
                        "No town has that number.",
                        tier="small",
                        context=context,
                        left_usd=left_usd,
                    )
            audits = await bench.rows("SELECT grade, reference_grade FROM audits")
            assert len(audits) == 2
            assert {row.reference_grade for row in audits} == {1.0}
            purposes = Counter(row.purpose for row in await bench.rows("SELECT purpose FROM calls"))
            assert purposes == {"audit": 2, "grade": 4}
            (audit,) = await query_events(bench.engine, ids[0])
            assert (audit.kind, audit.event) == ("audit", "call")
            assert audit.reasons[0].startswith("the accepted answer of small is graded")
            assert cost_usd([audit]) == 0.0, "it is the batch's"

            simulator.control(faults=[{"kind": "safety", "model": "gpt-5-mini"}])
            nor = "Nor has this one."
            await audit_answer(refused, refused.to_query(), nor, tier="small", context=context, left_usd=math.inf)
            found = await bench.rows("SELECT grade, reference_grade FROM audits WHERE query_id = :id", id=refused.id)
            assert [tuple(row) for row in found] == [(0.0, 1.0)], "what the judge refuses is a loss"

    on_bench(story)


def test_a_grader_that_the_fleet_does_not_have_is_refused_before_anything_is_written(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = replace(simulated_fleet(simulator.url), quality=Grading())
        async with worker_context_of(bench, fleet) as context:
            with pytest.raises(InvalidInput, match="names no judge"):
                await hand_in(lines(2), BatchSpec(source="test", pilot=JUDGED), context)
            assert (await bench.counts())[0] == 0

    on_bench(story)


COMMAND = """
import json, sys
for line in sys.stdin:
    item = json.loads(line)
    print(json.dumps({"id": item["id"], "grade": 1.0 if "town" in item["query"] else 0.0}))
"""


@pytest.mark.parametrize(("program", "outcome"), [(COMMAND, "certified"), ("raise SystemExit(3)", "top_tier")])
def test_the_users_command_grades_a_pilot_and_its_failure_certifies_nothing(
    on_bench: OnBench, simulator: SimulatorProcess, program: str, outcome: str
) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = replace(
            judged_fleet(simulator.url),
            quality=Grading(command=(sys.executable, "-c", program), command_timeout_s=60.0),
        )
        async with worker_context_of(bench, fleet) as context:
            spec = replace(JUDGED, grader=GraderChoice.COMMAND)
            batch = await hand_in(lines(300), BatchSpec(source="test", pilot=spec), context)
            await decided(context)
            assert await bench.rows("SELECT 1 FROM calls WHERE purpose = 'grade'") == []
            certificate = await certificate_of(batch, context)
            assert certificate["outcome"] == outcome
            if outcome == "top_tier":
                assert "the grading command failed: the command ended with status 3" in certificate["reason"]

    on_bench(story)


def test_a_command_that_takes_longer_than_the_lease_keeps_the_decision(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision, "DECISION_LEASE_S", 1.0)

    async def story(bench: LedgerHarness) -> None:
        slow = "import time; time.sleep(3)" + COMMAND
        grading = Grading(command=(sys.executable, "-c", slow), command_timeout_s=60.0)
        async with worker_context_of(bench, replace(judged_fleet(simulator.url), quality=grading)) as context:
            pilots = Pilots(context.engine)
            spec = replace(JUDGED, grader=GraderChoice.COMMAND)
            await hand_in(lines(300), BatchSpec(source="test", pilot=spec), context)
            (first,) = await pilots.take_sampled(lease_s=1.0, simulated=None)
            await decide_pilot(first, context)
            await work_off(context)
            (taken,) = await pilots.take_sampled(lease_s=1.0, simulated=None)
            deciding = asyncio.create_task(decide_pilot(taken, context))
            await asyncio.sleep(0.2)
            while not deciding.done():
                assert await pilots.take_sampled(lease_s=1.0, simulated=None) == []
                await asyncio.sleep(0.1)
            await deciding
            pilot = await pilots.find(taken.batch_id)
            assert pilot is not None
            assert pilot.state == "decided"

    on_bench(story)


def test_a_limit_of_the_judge_is_waited_for(
    on_bench: OnBench, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "WAIT_S", 0.0)

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, judged_fleet(simulator.url)) as context:
            batch, taken = await sampled(context)
            simulator.control(faults=[{"kind": "429", "model": "gpt-5-mini", "calls": 4, "retry_after_s": 4.0}])
            await decide_pilot(taken, context)
            simulator.control(faults=[])
            certificate = await certificate_of(batch, context)
            assert certificate["judge"]["abstained"] == 0

    on_bench(story)


def test_a_cancelled_batch_has_no_more_graded(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, judged_fleet(simulator.url)) as context:
            _, taken = await sampled(context)
            await bench.rows("UPDATE batches SET cancelled_at = now()")
            await decide_pilot(taken, context)
            assert await bench.rows("SELECT 1 FROM calls WHERE purpose = 'grade'") == []
            pilot = await Pilots(bench.engine).find(taken.batch_id)
            assert pilot is not None
            assert pilot.state == "deciding", "nothing is certified of what was not graded"

    on_bench(story)
