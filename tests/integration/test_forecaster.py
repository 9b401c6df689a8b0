"""A batch carries its plan; the next one learns from what became of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from db.batch_writer import BatchSpec
from db.reports import forecast_history
from db.reports.batch_progress import find_batch
from db.reports.batch_stats import batch_figures
from db.reports.forecast_history import load_history, load_queues
from db.reports.json_views import batch_as_json
from db.worker_registry import WorkerRegistry
from evaluation.quality_floor.pilot_size import LARGEST_SAMPLE
from routing.fleet import BudgetPolicy
from routing.forecast.forecast_types import CallLatency, Forecast, ForecastHistory, GradeRecord, PolicyCost, QueueLoad
from routing.lifecycle import ROUTE
from routing.outcome import Usage
from routing.pilot import PilotSpec
from settings import Settings
from submission.dry_run import LinesRead, dry_run_report, is_covered
from submission.forecast_json import forecast_as_json
from submission.forecaster import Forecaster, default_slots
from submission.input_line import InputLine, InvalidInput
from submission.reservoir_sample import ReservoirSample
from submission.submit import SubmitResult, submit
from tests.integration.ledger_fixtures import LedgerHarness, OnBench, advance, finish
from tests.integration.test_audit_seals import as_owner

BODY = b'{"messages":[{"role":"user","content":"What is the capital of France?"}]}'


async def planned(bench: LedgerHarness, settings: Settings, *, count: int = 4) -> SubmitResult:
    lines = [InputLine(number, f"q-{number}", BODY, b'{"pin":"small"}') for number in range(1, count + 1)]
    spec = BatchSpec(source="test")
    forecaster = Forecaster(settings, bench.fleet, bench.engine, spec)
    return await submit(lines, engine=bench.engine, fleet=bench.fleet, spec=spec, forecaster=forecaster)


async def answer_all(bench: LedgerHarness) -> None:
    for row in await bench.rows("SELECT id FROM queries WHERE state = 'ready'"):
        claim = await bench.claim(ROUTE, row.id)
        await bench.ledger.transition(advance(row.id, claim.epoch, ROUTE, "small"))
        claim, sent = await bench.send(row.id)
        assert await bench.ledger.transition(finish(row.id, claim.epoch, sent)) is not None
    await bench.ledger.end_batches()


def test_the_plan_is_stored_and_told_beside_what_came_of_it(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        submitted = await planned(bench, settings)
        batch = await find_batch(bench.engine, submitted.public_id)
        assert batch is not None
        assert batch.plan is not None
        assert (batch.plan["total"], batch.plan["by_tier"]) == (4, {"small": 4.0})
        told = batch_as_json(await batch_figures(bench.engine, batch))["plan_against_actual"]
        assert told["cost_usd"]["within"] is None, "it is still open"
        await answer_all(bench)
        figures = await batch_figures(bench.engine, batch)
        told = batch_as_json(figures)["plan_against_actual"]
        assert told["by_tier"] == {"small": {"expected": 4.0, "actual": 4}}
        assert told["cost_usd"]["actual"] == figures.cost_usd > 0
        assert told["cost_usd"]["within"] is (told["cost_usd"]["low"] <= figures.cost_usd <= told["cost_usd"]["high"])

    on_bench(story)


def test_the_time_in_which_a_batch_was_held_is_not_compared_with_the_forecast(
    on_bench: OnBench, settings: Settings
) -> None:
    """The forecast was called wrong because the user took three minutes to raise the budget."""

    async def story(bench: LedgerHarness) -> None:
        submitted = await planned(bench, settings)
        await bench.rows_as_owner(
            "INSERT INTO decisions (at, batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons)"
            " SELECT now() - interval '1 hour', batch_id, id, 0, 'budget', 'hold', stage, stage, 'held', '{}'"
            " FROM queries"
        )
        await bench.rows_as_owner("UPDATE batches SET created_at = now() - interval '1 hour'")
        await bench.rows("UPDATE queries SET state = 'held', needs_usd = 0.01")
        assert await bench.ledger.release_held() == 4
        await answer_all(bench)
        batch = await find_batch(bench.engine, submitted.public_id)
        assert batch is not None
        figures = await batch_figures(bench.engine, batch)
        wall = batch_as_json(figures)["plan_against_actual"]["wall_s"]
        assert wall["actual"] >= 3600
        assert 3599 < wall["held_s"] <= wall["actual"]
        assert wall["within"] is (wall["low"] <= wall["actual"] - wall["held_s"] <= wall["high"])

    on_bench(story)


@pytest.mark.parametrize("turns", ["id <= (SELECT min(id) + 5 FROM queries)", "mod(id, 2) = 0"])
def test_the_history_of_a_batch_is_of_all_its_parts(
    on_bench: OnBench, settings: Settings, monkeypatch: pytest.MonkeyPatch, turns: str
) -> None:
    async def story(bench: LedgerHarness) -> None:
        await planned(bench, settings, count=12)
        await answer_all(bench)
        longer = f"UPDATE calls SET completion_tokens = 105 WHERE query_id IN (SELECT id FROM queries WHERE {turns})"
        await as_owner(bench, longer)
        for each in (6, 12):
            monkeypatch.setattr(forecast_history, "QUERIES", each)
            history = await load_history(bench.engine, bench.fleet, tenant="default", total=12)
            ((*_, tokens, _, answers),) = history.lengths.of_shapes([""])
            assert answers == each
            assert 20 < tokens < 90, "both kinds, also where they stand in turns"

    on_bench(story)


def test_a_budget_below_the_pilots_cost_is_refused_before_anything_is_written(
    on_bench: OnBench, settings: Settings
) -> None:
    async def story(bench: LedgerHarness) -> None:
        pilot = PilotSpec(0.9)

        async def submitted(cap_usd: float) -> SubmitResult:
            spec = BatchSpec(source="test", cap_usd=cap_usd, pilot=pilot)
            return await submit(
                [InputLine(number, f"q-{number}", BODY, None) for number in range(1, 401)],
                engine=bench.engine,
                fleet=bench.fleet,
                spec=spec,
                forecaster=Forecaster(settings, bench.fleet, bench.engine, spec),
            )

        with pytest.raises(InvalidInput) as refused:
            await submitted(0.000_001)
        (rejection,) = refused.value.rejections
        assert (rejection.line_no, rejection.field, rejection.code) == (0, "budget", "pilot_over_budget")
        assert "--pilot N" in rejection.fix
        assert await bench.rows("SELECT 1 FROM batches") == []
        enough = await submitted(1000.0)
        assert (enough.total, enough.warnings) == (400, ())
        (plan,) = [row.plan for row in await bench.rows("SELECT plan FROM batches")]
        (strained,) = (await submitted(1.1 * plan["pilot"]["cost_usd"])).warnings
        assert "will probably leave queries without an answer. fix: use a budget of $" in strained
        assert ("the pilot with its grading is" in strained) == (plan["pilot"]["grade_cost_usd"] > 0)
        assert plan["pilot"]["low_usd"] < plan["pilot"]["cost_usd"] < plan["pilot"]["high_usd"]

    on_bench(story)


def forecast_of(
    bench: LedgerHarness, settings: Settings, options: bytes | None, sample: ReservoirSample | None = None, **means: Any
) -> Forecast:
    """For ten lines with these options, by the gate alone."""
    fleet = replace(bench.fleet, router=replace(bench.fleet.router, stages=("gate",)))
    forecaster = Forecaster(settings, fleet, None, BatchSpec(source="test", **means), sample or ReservoirSample())
    body = b'{"max_tokens":200,"messages":[{"role":"user","content":"This is an easy question: is 2 prime?"}]}'
    for number in range(1, 11):
        forecaster.sample.see(InputLine(number, f"q-{number}", body, options))
    return forecaster._forecast(None, ForecastHistory(), QueueLoad(default_slots(fleet)))


def test_a_plan_heeds_what_lines_may_cost(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        free = forecast_of(bench, settings, None)
        assert free.tiers[0].tier == "large"
        capped = forecast_of(bench, settings, b'{"max_cost_usd":0.001}')
        assert capped.tiers[0].tier in ("small", "medium")
        assert capped.cost_usd.expected < free.cost_usd.expected
        none = forecast_of(bench, settings, b'{"max_cost_usd":1e-9}')
        assert (none.cost_usd.expected, none.total, none.over_cap) == (0.0, 0, 10)
        assert forecast_as_json(none)["total"] == 10

    on_bench(story)


def test_a_plan_expects_no_larger_pilot_than_there_is(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        sample = ReservoirSample(10)
        for number in range(100_000):
            sample.see(InputLine(number, f"q-{number}", BODY, None))
        planned = forecast_of(bench, settings, None, pilot=PilotSpec(0.9), sample=sample)
        assert planned.pilot_queries == LARGEST_SAMPLE

    on_bench(story)


def test_a_plan_counts_a_judge_for_free_text_and_none_for_choices(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        assert bench.fleet.judges
        many = ReservoirSample(10)
        for number in range(2_000):
            many.see(InputLine(number, f"q-{number}", BODY, None))
        labels = ReservoirSample(10)
        for number in range(2_000):
            labels.see(InputLine(number, f"q-{number}", BODY, b'{"expects":{"choices":["yes","no"]}}'))
        assert forecast_of(bench, settings, None, pilot=PilotSpec(0.9), sample=many).grade_usd > 0
        assert forecast_of(bench, settings, None, pilot=PilotSpec(0.9), sample=labels).grade_usd == 0

    on_bench(story)


def test_a_plan_heeds_a_budget_that_degrades(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        free = forecast_of(bench, settings, None)
        cap_usd = free.cost_usd.expected / 2
        degraded = forecast_of(bench, settings, None, cap_usd=cap_usd, budget_policy=BudgetPolicy.DEGRADE)
        assert {tier.tier for tier in degraded.tiers if tier.routed} > {"large"}
        assert degraded.cost_usd.expected <= cap_usd, "with its escalations"
        held = forecast_of(bench, settings, None, cap_usd=cap_usd, budget_policy=BudgetPolicy.HOLD)
        assert held.cost_usd == free.cost_usd, "of all queries: the views cut it, as a budget may be raised"

    on_bench(story)


def test_a_dry_run_caps_the_forecast_at_the_budget_and_a_batch_shows_the_whole_need(
    on_bench: OnBench, settings: Settings
) -> None:
    async def story(bench: LedgerHarness) -> None:
        spec = BatchSpec(source="test", cap_usd=0.000_001)
        forecaster = Forecaster(settings, bench.fleet, bench.engine, spec)
        lines = [InputLine(number, f"q-{number}", BODY, None) for number in range(1, 11)]
        made = await submit(lines, engine=bench.engine, fleet=bench.fleet, spec=spec, forecaster=forecaster)
        batch = await find_batch(bench.engine, made.public_id)
        assert batch is not None
        assert batch.plan is not None
        expected = batch.plan["cost_usd"]["expected"]
        shown = batch_as_json(await batch_figures(bench.engine, batch))["plan_against_actual"]["cost_usd"]
        assert shown["high"] > shown["expected"] == expected > 0.000_001
        report = dry_run_report(batch.plan, source="test", spec=spec, fleet=bench.fleet, read=LinesRead(), ages={})
        assert report["plan"]["cost_usd"]["high"] == 0.000_001
        assert (report["uncapped_usd"], is_covered(report)) == (expected, False)

    on_bench(story)


def test_a_batch_without_a_planner_has_no_plan(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await bench.submit(1)
        (row,) = await bench.rows("SELECT public_id, plan FROM batches")
        assert row.plan is None
        batch = await find_batch(bench.engine, row.public_id)
        assert batch is not None
        assert batch_as_json(await batch_figures(bench.engine, batch))["plan_against_actual"] is None

    on_bench(story)


@pytest.mark.parametrize("code", ["pilot", "quality_policy"])
def test_of_what_a_pilot_or_its_certificate_decides_the_judges_own_verdicts_count(
    on_bench: OnBench, settings: Settings, code: str
) -> None:
    async def story(bench: LedgerHarness) -> None:
        await planned(bench, settings)
        await answer_all(bench)
        for codes, rejected in (("confident", 0), (f"{code},confident,note", 0), (f"{code},low_confidence", 4)):
            await as_owner(
                bench,
                f"UPDATE decisions SET kind = 'judge', tier = 'small', codes = '{{{codes}}}' WHERE move = 'finish'",
            )
            past = await load_history(bench.engine, bench.fleet, tenant="default", total=4)
            assert past.verdicts == {"small": (4, rejected)}

    on_bench(story)


def test_the_next_plan_learns_doubts_latencies_and_what_the_last_one_missed(
    on_bench: OnBench, settings: Settings
) -> None:
    async def story(bench: LedgerHarness) -> None:
        assert await load_history(bench.engine, bench.fleet, tenant="default", total=4) == ForecastHistory()
        await planned(bench, settings)
        await answer_all(bench)
        past = await load_history(bench.engine, bench.fleet, tenant="default", total=4)
        (call,) = await bench.rows("SELECT DISTINCT cost_usd, completion_tokens FROM calls")
        assert past.latencies == {"small": CallLatency(4, 0.012, call.completion_tokens)}
        assert past.lengths.of_shapes([""]) == [["small", "", "", call.completion_tokens, 0.0, 4]]
        other = await load_history(bench.engine, bench.fleet, tenant="other", total=4)
        assert (other.lengths.of_shapes([""]), other.latencies) == ([], past.latencies)
        (batch,) = await bench.rows("SELECT plan FROM batches")
        answer_usd = bench.fleet.deployments("small")[0].price.cost_usd(Usage(0, call.completion_tokens))
        ratio = (float(call.cost_usd) - answer_usd) / batch.plan["tiers"]["small"]["prompt_usd"]
        assert past.prompt_ratios["small"] == pytest.approx([ratio], rel=0.01)
        assert past.time_ratios[False] == [], "its latencies were assumed: the measured ones set right what they missed"
        renamed = replace(bench.fleet, name="another name")
        found = await load_history(bench.engine, renamed, tenant="default", total=4)
        assert (found.latencies, found.prompt_ratios) == (past.latencies, past.prompt_ratios)
        other_prices = replace(renamed, aliases={"gpt-4": "small"})
        assert await load_history(bench.engine, other_prices, tenant="default", total=4) == ForecastHistory()
        await planned(bench, settings)
        await answer_all(bench)
        assert len((await load_history(bench.engine, bench.fleet, tenant="default", total=4)).time_ratios[False]) == 1
        others = await load_history(bench.engine, bench.fleet, tenant="default", total=4)
        assert others.time_ratios[True] == [], "a batch with a pilot waits for its steps"
        assert (await load_history(bench.engine, bench.fleet, tenant="default", total=400)).time_ratios[False] == [], (
            "it was far smaller"
        )

    on_bench(story)


def test_each_further_batch_of_a_file_narrows_its_forecast(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        async def width(source: str) -> float:
            forecaster = Forecaster(settings, bench.fleet, bench.engine, BatchSpec(source=source))
            forecaster.sample.see(InputLine(1, "q-1", BODY, b'{"pin":"small"}'))
            cost = (await forecaster.forecast()).cost_usd
            return cost.high / cost.low

        widths = []
        for _ in range(3):
            await planned(bench, settings, count=100)
            await answer_all(bench)
            widths.append(await width("test"))
        assert widths == sorted(widths, reverse=True)
        assert widths[-1] < 0.7 * await width("a-file-of-another-kind.csv")

    on_bench(story)


def test_what_policies_of_earlier_batches_cost_is_learned_without_their_pilots(
    on_bench: OnBench, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(bench: LedgerHarness) -> None:
        await planned(bench, settings)
        await answer_all(bench)
        rest = '{"pilot": {"rest": {"least_tier": "small", "least_usd": 1, "most_tier": "large", "most_usd": 5}}}'
        await as_owner(bench, f"UPDATE batches SET plan = plan || '{rest}'")
        await as_owner(
            bench,
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, decided_at, certificate)"
            " SELECT id, 0.9, 0.95, 1, 0, 'decided', now(), '{\"grader\": {}}' FROM batches",
        )
        await as_owner(bench, "DELETE FROM workload_sums")
        await as_owner(bench, "UPDATE batches SET summed_at = now()")
        await as_owner(
            bench,
            "INSERT INTO workload_sums (batch_id, workload, router, version, tier, answers, cost_usd, baseline_usd)"
            " SELECT id, '', unnest(ARRAY['pilot', 'quality_policy']), '', 'small', 2, unnest(ARRAY[6, 1]), 5"
            " FROM batches",
        )

        async def learned(**batch: Any) -> Sequence[PolicyCost]:
            past = await load_history(bench.engine, bench.fleet, tenant="default", total=4, **batch)
            return past.policy_costs

        none = frozenset[str]()
        assert await learned(source="test", floor=0.9) == [PolicyCost(0.2, True, True, none)], "a fifth"
        assert await learned(source="test", floor=0.95) == [PolicyCost(0.2, False, True, none)]
        assert await learned(source="other", floor=0.9) == [PolicyCost(0.2, True, False, none)]
        assert await learned(source="test") == [], "no floor is asked for"
        await as_owner(bench, "UPDATE batches SET summed_at = ended_at - interval '1 second'")
        (ended,) = await learned(source="test", floor=0.9)
        assert ended.ratio != 0.2, "it was summed when its pilot was decided, before the rest was answered"
        monkeypatch.setattr(forecast_history, "MOST_UNSUMMED", 3)
        assert await learned(source="test", floor=0.9) == [], "to sum large batches takes longer than the forecast may"
        await as_owner(bench, "UPDATE batches SET summed_at = now()")
        await as_owner(bench, "ALTER TABLE pilots DISABLE TRIGGER keep_certificate")
        await as_owner(bench, 'UPDATE pilots SET certificate = \'{"outcome": "top_tier"}\'')
        assert await learned(source="test", floor=0.9) == [], "its judge failed: it says nothing of a pilot"
        await as_owner(bench, "UPDATE pilots SET certificate = '{\"grader\": {}}'")
        lowered = "UPDATE decisions SET codes = ARRAY['lowered'] WHERE move = 'advance' AND query_id = %s"
        (query,) = await bench.rows("SELECT min(id) AS id FROM queries")
        await as_owner(bench, lowered % query.id)
        assert await learned(source="test", floor=0.9) == [], "a budget lowered queries of it"
        await as_owner(bench, "UPDATE decisions SET codes = '{}'")
        assert len(await learned(source="test", floor=0.9)) == 1
        await as_owner(bench, "UPDATE calls SET outcome = 'unknown', cost_usd = reserved_usd WHERE purpose = 'answer'")
        assert await learned(source="test", floor=0.9) == [], "an outage, not its policy, cost that"

    on_bench(story)


GRADED = """
INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, decided_at)
SELECT id, 0.9, 0.95, 1, 0, 'decided', now() FROM batches;
UPDATE queries SET pilot = true WHERE id <= (SELECT min(id) + 1 FROM queries);
UPDATE calls SET completion_tokens = 900, reasoning_tokens = 500
WHERE query_id IN (SELECT id FROM queries WHERE NOT pilot);
INSERT INTO calls (id, batch_id, epoch, purpose, tier, deployment, provider, model, reserved_usd, price_version,
                   outcome, prompt_tokens, completion_tokens, cost_usd, finished_at)
SELECT n, id, 1, 'grade', 'large', '{judge}', 'p', 'm', 1, 'v', 'ok', 300, 12, 0, now()
FROM batches, generate_series(9001, 9002) AS n;
INSERT INTO grades (call_id, place, batch_id, query_id, pair, reference_first)
SELECT call_id, place, id, first_query_id, 'pair-' || place, call_id = 9001
FROM batches, generate_series(9001, 9002) AS call_id, generate_series(0, 1) AS place
"""


def test_a_pilots_sample_says_how_long_answers_are_and_what_its_judge_was_asked(
    on_bench: OnBench, settings: Settings
) -> None:
    async def story(bench: LedgerHarness) -> None:
        await planned(bench, settings)
        await answer_all(bench)
        (call,) = await bench.rows("SELECT DISTINCT completion_tokens FROM calls")
        fleet = replace(bench.fleet, quality=replace(bench.fleet.quality, judge="large"))
        for statement in GRADED.format(judge=fleet.judges[0].name).split(";"):
            await as_owner(bench, statement)
        past = await load_history(bench.engine, fleet, tenant="default", total=4, floor=0.9)
        assert past.lengths.of_shapes([""]) == [["small", "", "", call.completion_tokens, 0.0, 2]], "not what climbed"
        assert past.grades == {("", ""): GradeRecord(2, 4, 600.0, 24.0)}
        other = replace(fleet, quality=replace(fleet.quality, judge="medium"))
        assert (await load_history(bench.engine, other, tenant="default", total=4, floor=0.9)).grades == {}
        assert (await load_history(bench.engine, fleet, tenant="default", total=4)).grades == {}, "no pilot is planned"

    on_bench(story)


def test_calls_of_other_lanes_teach_a_plan_nothing(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        await planned(bench, settings)
        await answer_all(bench)
        await as_owner(bench, "UPDATE calls SET lane = 'batch', latency_ms = NULL, cost_usd = cost_usd / 2")
        past = await load_history(bench.engine, bench.fleet, tenant="default", total=4)
        assert (past.latencies, past.prompt_ratios) == ({}, {})
        assert past.lengths.of_shapes([""]) == []

    on_bench(story)


def test_a_batch_is_taken_although_its_plan_cannot_be_made(on_bench: OnBench, settings: Settings) -> None:
    async def story(bench: LedgerHarness) -> None:
        await planned(bench, settings)
        await answer_all(bench)
        await as_owner(bench, "REVOKE SELECT ON calls FROM pointsman_app")
        submitted = await planned(bench, settings, count=3)
        (row,) = await bench.rows("SELECT total, plan FROM batches WHERE public_id = :id", id=submitted.public_id)
        assert (row.total, row.plan) == (3, None)

    on_bench(story)


def test_what_is_open_and_who_works_is_the_load(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        otherwise = {"small": 7, "large": 3}
        await bench.submit(5)
        assert await load_queues(bench.engine, bench.fleet, otherwise=otherwise) == QueueLoad(otherwise, {"route": 5})
        for number in range(2):
            await WorkerRegistry(bench.engine).register(
                name=f"small-{number}", role="route small", host="h", pid=1, slots=64
            )
        slots = (await load_queues(bench.engine, bench.fleet, otherwise=otherwise)).slots
        assert slots == {"small": 2 * bench.fleet.tiers["small"].concurrency, "large": 3}

    on_bench(story)
