"""Answers of the wrong shape: what is certain is corrected for free, and the query stays at its tier."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from db.batch_writer import BatchSpec
from db.reports import run_report
from routing.answer_checks.confidence_policy import ConfidencePolicy
from routing.answer_checks.repair import RepairRecord
from routing.fleet import BudgetPolicy, Fleet, ShapePolicy
from routing.outcome import Usage
from simulator.process import SimulatorProcess
from submission.input_line import InputLine
from tasks.repair_log import RepairLog
from tests.integration.end_to_end import Watch, account, hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_budget_guard import PRICES, billed_usd
from tests.integration.test_confidence_calls import SMALL_FIRST, one_model_fleet, purposes

JSON_OBJECT = {"expects": {"json_object": True}}
SPAM_OR_HAM = {"expects": {"choices": ["spam", "ham"]}}


def line(number: int, text: str, options: Mapping[str, Any]) -> InputLine:
    body = {"messages": [{"role": "user", "content": text}]}
    return InputLine(number, f"q-{number}", orjson.dumps(body), orjson.dumps(options))


def fleet_of(url: str, shape: ShapePolicy) -> Fleet:
    """Its small tier accepts whatever the validators do."""
    fleet = one_model_fleet(url, ConfidencePolicy())
    small = replace(fleet.tiers["small"], confidence_threshold=0.0)
    return replace(fleet, tiers={**fleet.tiers, "small": small}, shape=shape)


LINES = [
    line(1, "Return a JSON object with keys: name, age", JSON_OBJECT),
    line(2, "Is this mail spam? Reply with one of: spam, ham", SPAM_OR_HAM),
]
FAULTS = [
    {"kind": "code_fence", "model": "gpt-5-nano", "first": 1},
]


def test_a_certain_correction_is_delivered_marked_and_free(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    simulator.control(faults=FAULTS, strengths={"gpt-5-nano": 1.0})

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of(simulator.url, ShapePolicy())) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(LINES, BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == 2
        assert await purposes(bench) == {("small", "answer"): 2}
        answers = await bench.rows("SELECT response, accepted FROM answers ORDER BY query_id")
        for answer in answers:
            content = answer.response["choices"][0]["message"]["content"]
            correction = answer.response["pointsman"]["correction"]
            assert answer.accepted
            assert correction["rules"] == ["code fence"]
            assert correction["original"].startswith("```")
            assert content in correction["original"]
        assert isinstance(orjson.loads(answers[0].response["choices"][0]["message"]["content"]), dict)
        assert answers[1].response["choices"][0]["message"]["content"] in ("spam", "ham")
        reasons = await bench.rows("SELECT codes, reasons FROM decisions WHERE kind = 'judge'")
        assert [(row.codes[-1], row.reasons[-1]) for row in reasons] == [("corrected", "corrected: code fence")] * 2

    on_bench(story)


def test_without_the_switch_the_query_climbs(on_bench: OnBench, simulator: SimulatorProcess) -> None:
    simulator.control(faults=FAULTS, strengths={"gpt-5-nano": 1.0})

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(
            bench, fleet_of(simulator.url, ShapePolicy(correction=False, repair=False))
        ) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(LINES, BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == 2
        assert await purposes(bench) == {("small", "answer"): 2, ("large", "answer"): 2}
        assert not await bench.rows("SELECT 1 FROM decisions WHERE 'corrected' = ANY(codes)")

    on_bench(story)


def test_what_cannot_be_corrected_is_repaired_at_the_same_tier(
    on_bench: OnBench, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    # The text of a repair is another one: it is spoiled as well by a fault of its own, which is corrected.
    simulator.control(
        prices=PRICES, strengths={"gpt-5-nano": 1.0}, faults=[{"kind": "in_a_sentence", "first": 1, "calls": 2}]
    )

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of(simulator.url, ShapePolicy())) as context:
            context.trained = SMALL_FIRST
            batch = await hand_in(LINES, BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == 2
        assert (await purposes(bench))["small", "repair"] == 1, "JSON in a sentence is corrected, a choice is not"
        (repaired,) = await bench.rows(
            "SELECT d.codes, d.move, d.reasons, a.call_id = c.id AS is_answer FROM calls AS c"
            " JOIN decisions AS d ON d.call_id = c.id JOIN answers AS a ON a.query_id = c.query_id"
            " WHERE c.purpose = 'repair'"
        )
        assert (repaired.codes[-1], repaired.move, repaired.is_answer) == ("repaired", "finish", True)
        assert repaired.reasons[-1] == "asked again: none of the 2 choices"
        total = await bench.rows("SELECT sum(cost_usd) AS usd FROM calls")
        assert float(total[0].usd) == pytest.approx(billed_usd(tmp_path / "calls.jsonl", simulator), abs=1e-9)
        figures = await account(batch, context)
        (own,) = await bench.rows(
            "SELECT sum(prompt_tokens) FILTER (WHERE purpose = 'answer') AS prompts,"
            " sum(completion_tokens) FILTER (WHERE id IN (SELECT call_id FROM answers)) AS said FROM calls"
        )
        top = fleet_of(simulator.url, ShapePolicy()).models["gpt-5.2"].price
        assert figures.baseline_cost_usd == pytest.approx(top.cost_usd(Usage(own.prompts, own.said)))
        (shapes,) = await run_report(bench.engine, "log_shapes", batch_id=batch.id)
        assert (shapes.workload, shapes.tier, shapes.repaired, shapes.stood) == ("", "small", 1, 1)
        assert shapes.corrected >= 1
        assert shapes.repair_usd > 0
        record = await bench.ledger.repairs(batch.id, tier="small", workload="", newest=10)
        assert record == RepairRecord(made=1, stood=1)
        assert await bench.ledger.repairs(batch.id, tier="small", workload="other", newest=10) == RepairRecord()

    on_bench(story)


def test_a_failed_repair_climbs_and_the_log_learns_that_it_does_not_pay(
    on_bench: OnBench, simulator: SimulatorProcess
) -> None:
    simulator.control(faults=[{"kind": "in_a_sentence", "model": "gpt-5-nano"}])
    many = [line(n, f"Is mail {n} spam? Reply with one of: spam, ham", SPAM_OR_HAM) for n in range(150)]

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of(simulator.url, ShapePolicy())) as context:
            context.trained = SMALL_FIRST
            context.repairs = RepairLog(refresh_s=0.0)
            batch = await hand_in(many, BatchSpec(source="test"), context)
            await work_off(context)
            assert (await account(batch, context)).progress.done == len(many)
        calls = await purposes(bench)
        assert calls["small", "answer"] == calls["large", "answer"] == len(many)
        assert 0 < calls["small", "repair"] < len(many) / 2
        (row,) = await bench.rows(
            "SELECT count(*) AS n FROM decisions WHERE kind = 'judge' AND move = 'advance' AND 'repaired' = ANY(codes)"
        )
        assert row.n == calls["small", "repair"]

    on_bench(story)


@pytest.mark.parametrize("policy", list(BudgetPolicy))
def test_repairs_stay_within_the_budget(on_bench: OnBench, simulator: SimulatorProcess, policy: BudgetPolicy) -> None:
    simulator.control(prices=PRICES, faults=[{"kind": "in_a_sentence", "model": "gpt-5-nano"}])
    many = [line(n, f"Is mail {n} spam? Reply with one of: spam, ham", SPAM_OR_HAM) for n in range(30)]

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of(simulator.url, ShapePolicy())) as context:
            context.trained = SMALL_FIRST
            free = await hand_in(many, BatchSpec(source="test"), context)
            await work_off(context)
            cap_usd = round((await account(free, context)).cost_usd / 2, 6)
            batch = await hand_in(many, BatchSpec(source="test", cap_usd=cap_usd, budget_policy=policy), context)
            watch = Watch(bench, batch)
            await work_off(context, watch.look)
            assert (await account(batch, context)).cost_usd <= cap_usd
            assert watch.samples > 0

    on_bench(story)


@pytest.mark.parametrize(("first", "done"), [(1, 1), (2, 0)], ids=["empty once", "empty twice"])
def test_an_empty_answer_of_the_top_tier_is_asked_for_once_more(
    on_bench: OnBench, simulator: SimulatorProcess, first: int, done: int
) -> None:
    simulator.control(strengths={"gpt-5.2": 1.0}, faults=[{"kind": "empty", "model": "gpt-5.2", "first": first}])

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of(simulator.url, ShapePolicy())) as context:
            pinned = line(1, "Why is the sky blue?", {"tier": "large"})
            batch = await hand_in([pinned], BatchSpec(source="test"), context)
            await work_off(context)
            progress = (await account(batch, context)).progress
            assert (progress.done, progress.failed) == (done, 1 - done)
        assert await purposes(bench) == {("large", "answer"): 1, ("large", "repair"): 1}

    on_bench(story)
