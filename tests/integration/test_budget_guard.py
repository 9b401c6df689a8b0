"""Means, the whole way: a cap at half of the need, by each policy; and queries with a cap of their own."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from db.batch_writer import BatchSpec
from db.call_result import CallResult
from db.ledger_types import QueuedQuery, Transition
from db.reports.batch_progress import Batch
from db.reports.batch_warnings import batch_warnings
from db.reports.budget_balance import batch_budget
from routing.answer_lengths import LEAST_CAP, UNNAMED_CAP_TIMES, AnswerLengths, LengthGroup, LengthRecord
from routing.budget.query_budget import worst_usd
from routing.fleet import BudgetPolicy
from routing.lifecycle import MoveKind, State
from routing.outcome import Completion, Failure, FailureKind, Usage
from simulator.process import SimulatorProcess
from submission.input_line import InputLine
from tasks.stages.answer import earlier_calls
from tasks.stages.query_executor import NO_CALLS, QueryExecutor
from tasks.usage_estimates import LONGER_BY, MANY_ANSWERS
from tasks.worker_context import WorkerContext
from tests.chaos import query_corpus
from tests.chaos.query_corpus import SHARED_PREFIX
from tests.integration.end_to_end import Watch, account, hand_in, simulated_fleet, work_off, worker_context_of
from tests.integration.ledger_fixtures import WHY, LedgerHarness, OnBench

QUERIES = 120
PRICES = {
    "gpt-5-nano": [0.05, 0.40],
    "gemini-2.5-flash-lite": [0.10, 0.40],
    "gpt-5-mini": [0.25, 2.00],
    "claude-haiku-4-5": [1.00, 5.00],
    "gpt-5.2": [1.75, 14.00],
    "claude-opus-4-5": [5.00, 25.00],
    "gpt-4.1": [2.00, 8.00],
}


@pytest.fixture
def priced(simulator: SimulatorProcess) -> SimulatorProcess:
    simulator.control(prices=PRICES)
    return simulator


def lines(tag: str, *, max_cost_usd: float | None = None) -> Iterator[InputLine]:
    options = None if max_cost_usd is None else orjson.dumps({"max_cost_usd": max_cost_usd})
    for line in query_corpus.lines(tag, QUERIES):
        yield InputLine(line.line_no, line.custom_id, line.body, options)


async def states(bench: LedgerHarness, batch: Batch) -> Counter[str]:
    rows = await bench.rows("SELECT state, count(*) AS n FROM queries WHERE batch_id = :id GROUP BY 1", id=batch.id)
    return Counter({row.state: row.n for row in rows})


async def need_usd(context: WorkerContext) -> float:
    """What the queries cost without a cap."""
    batch = await hand_in(lines("a"), BatchSpec(source="test"), context)
    await work_off(context)
    figures = await account(batch, context)
    assert figures.progress.done == QUERIES
    return figures.cost_usd


def billed_usd(log: Path, simulator: SimulatorProcess, *, before: int = 0) -> float:
    """What the simulator's own log of calls charges, from call number ``before`` on."""
    simulator.stats()
    calls = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    return sum(call["cost_usd"] for call in calls[before:] if call["billed"])


@pytest.mark.parametrize("policy", list(BudgetPolicy))
def test_at_half_of_the_need_nothing_is_spent_beyond_the_cap(
    on_bench: OnBench, priced: SimulatorProcess, tmp_path: Path, policy: BudgetPolicy
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(priced.url)) as context:
            cap_usd = round(await need_usd(context) / 2, 6)
            order = BatchSpec(source="test", cap_usd=cap_usd, budget_policy=policy)
            batch = await hand_in(lines("b"), order, context)
            watch = Watch(bench, batch)
            await work_off(context, watch.look)
            figures, ended = await account(batch, context), await states(bench, batch)
            told = dict(figures=figures.cost_usd, cap=cap_usd, most=float(watch.most_usd), samples=watch.samples)
            print(policy, dict(ended), told, figures.progress.by_tier)
            assert watch.samples > 20
            assert figures.cost_usd <= cap_usd
            total = await bench.rows("SELECT sum(cost_usd) AS usd FROM calls")
            assert float(total[0].usd) == pytest.approx(billed_usd(tmp_path / "calls.jsonl", priced), abs=1e-9)
            match policy:
                case BudgetPolicy.HOLD:
                    assert ended["held"] > QUERIES / 10
                    means = await batch_budget(bench.engine, batch.id)
                    assert means.own is not None
                    assert (means.held, means.own.reserved_usd) == (ended["held"], 0)
                    assert means.held_least_usd is not None
                    assert means.own.left_usd < means.held_least_usd <= means.held_needs_usd
                    assert means.held_cost is not None
                    await bench.ledger.set_budget(batch.id, cap_usd=cap_usd * 4)
                    await work_off(context)
                    assert await states(bench, batch) == {"done": QUERIES}
                    further_usd = (await account(batch, context)).cost_usd - figures.cost_usd
                    assert means.held_cost.likely_usd == pytest.approx(further_usd, rel=0.5)
                    assert means.held_cost.most_usd > 0.9 * further_usd
                case BudgetPolicy.FAIL:
                    assert ended["failed"] > QUERIES / 10
                    assert ended["done"] + ended["failed"] == QUERIES
                    assert figures.over_budget == ended["failed"]
                    (warning,) = batch_warnings(figures)
                    assert (
                        f"{ended['failed']} of {QUERIES} queries ended without an answer, because the budget of $"
                        in warning
                    )
                case BudgetPolicy.DEGRADE:
                    assert ended["done"] > 0.95 * QUERIES
                    assert ended["done"] + ended["held"] == QUERIES
                    assert figures.lowered > QUERIES / 10
                    (warning,) = batch_warnings(figures)
                    assert f"the budget lowered {figures.lowered} of {QUERIES} queries to a cheaper tier" in warning

    on_bench(story)


def test_held_queries_likely_cost_what_ended_ones_did_from_their_tier_on(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        done, *_ = await bench.submit(4)
        await bench.rows_as_owner("UPDATE queries SET stage = 'small', state = 'held', needs_usd = 1")
        await bench.rows_as_owner("UPDATE queries SET state = 'done', finished_at = now() WHERE id = :id", id=done)
        calls = (  # ids come from a block of each worker: a later one may be lower
            (3000, "route", "route", 0.001),
            (2000, "small", "answer", 0.01),
            (2001, "small", "verify", 0.02),
            (1000, "medium", "answer", 0.05),
        )
        for place, (id_, tier, purpose, cost_usd) in enumerate(calls):
            await bench.rows_as_owner(
                "INSERT INTO calls (id, created_at, batch_id, query_id, epoch, purpose, tier, deployment, provider,"
                " model, reserved_usd, price_version, outcome, finished_at, cost_usd)"
                " SELECT :call_id, now() + make_interval(secs => :place), batch_id, id, 1, :purpose, :tier, 'd', 'p',"
                " 'm', 1, 'v', 'ok', now(), :usd FROM queries WHERE id = :id",
                call_id=id_,
                place=place,
                purpose=purpose,
                tier=tier,
                usd=cost_usd,
                id=done,
            )
        means = await batch_budget(bench.engine, (await bench.row(done)).batch_id)
        assert means.held == 3
        assert means.held_cost is None, "no query was asked at large"
        await bench.rows_as_owner("UPDATE calls SET tier = 'large' WHERE tier = 'medium'")
        means = await batch_budget(bench.engine, (await bench.row(done)).batch_id)
        assert means.held_cost is not None
        assert means.held_cost.likely_usd == pytest.approx(3 * (0.01 + 0.02 + 0.05)) == means.held_cost.most_usd
        assert means.held_cost.high_usd > 2 * means.held_cost.likely_usd, "one query shows little"

    on_bench(story)


def test_held_queries_of_a_dear_workload_are_priced_by_it_and_the_suggested_cap_finishes_them(
    on_bench: OnBench, priced: SimulatorProcess
) -> None:
    def two_kinds() -> Iterator[InputLine]:
        for place in range(QUERIES):
            workload, content = ("long", SHARED_PREFIX) if place % 2 else ("short", "What is")
            body = {"messages": [{"role": "user", "content": f"{content} {place}?"}], "max_tokens": 20}
            options = {"pin": "large", "metadata": {"workload": workload}}
            yield InputLine(place + 1, f"{workload}-{place}", orjson.dumps(body), orjson.dumps(options))

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(priced.url)) as context:
            batch = await hand_in(two_kinds(), BatchSpec(source="test", cap_usd=0.06), context)
            await work_off(context)
            held = await bench.rows("SELECT custom_id FROM queries JOIN prompts ON query_id = id WHERE state = 'held'")
            assert len(held) > QUERIES / 10
            assert sum(row.custom_id.startswith("long") for row in held) > 0.9 * len(held), "the cheap ones came first"
            means = await batch_budget(bench.engine, batch.id)
            assert means.own is not None
            assert means.held_cost is not None
            enough_usd = float(means.own.settled_usd + (means.held_most_usd or 0)) + means.held_cost.high_usd
            spent_usd = (await account(batch, context)).cost_usd
            await bench.ledger.set_budget(batch.id, cap_usd=enough_usd)
            await work_off(context)
            assert await states(bench, batch) == {"done": QUERIES}
            further_usd = (await account(batch, context)).cost_usd - spent_usd
            print(means.held_cost, further_usd, len(held))
            assert means.held_cost.likely_usd == pytest.approx(further_usd, rel=0.15)

    on_bench(story)


def test_a_line_never_costs_more_than_it_may(on_bench: OnBench, priced: SimulatorProcess) -> None:
    may_usd = 0.0004  # less than a call of the medium tier reserves, where the gate sends these queries

    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(priced.url)) as context:
            batch = await hand_in(lines("c", max_cost_usd=may_usd), BatchSpec(source="test"), context)
            await work_off(context)
            assert await states(bench, batch) == {"done": QUERIES}
            most_expensive = await bench.rows(
                "SELECT query_id, sum(cost_usd) AS usd FROM calls GROUP BY 1 ORDER BY 2 DESC"
            )
            assert 0 < most_expensive[0].usd <= may_usd
            lowered = await bench.rows("SELECT reasons FROM decisions WHERE kind = 'route' AND router = 'budget'")
            assert lowered
            assert all("max_cost_usd has" in row.reasons[-1] for row in lowered)

    on_bench(story)


@pytest.mark.parametrize(("policy", "is_cold"), [("hold", False), ("fail", True), ("degrade", True)])
def test_a_query_that_climbed_asks_within_the_cap_that_the_fallback_counted_where_no_more_is_paid(
    on_bench: OnBench, policy: str, is_cold: bool
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet("http://127.0.0.1:9")) as context:
            model = context.fleet.deployments("medium")[0]
            group = LengthGroup("medium", "", "")
            context.allowances.of(1).lengths = AnswerLengths({group: [LengthRecord(20.0, 0.0, 100)]})
            for _ in range(MANY_ANSWERS):
                context.usage.note(1, model.name, Usage(10, 1000), expected_prompt=10)
            query = QueuedQuery(
                *(1, 1, 0, 0, "medium", None, 0), 1, "q", {"messages": []}, {}, budget_policy=BudgetPolicy(policy)
            )
            learned, cold = context.usage.learned_cap(1, model.name), UNNAMED_CAP_TIMES * 20
            assert cold < learned
            for cap, expected in ((learned, learned), (learned - 1, cold if is_cold else learned)):
                budget_usd = worst_usd(query.to_query(), model, cap=cap)
                executor = QueryExecutor(query, "medium", context, NO_CALLS, left_usd=math.inf, budget_usd=budget_usd)
                assert executor.caps.next_cap(model) == expected

    on_bench(story)


def test_a_failed_call_leaves_the_cap_of_the_next_one_and_a_cut_answer_raises_it(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet("http://127.0.0.1:9")) as context:
            query_id = await bench.at_tier()
            cut = Completion("It is", "length", Usage(10, LEAST_CAP), response={}, latency_ms=1.0, model="m")
            outcomes = (Failure(FailureKind.SERVER_ERROR, "status 500", status=500), cut)
            for outcome, raised in zip((None, *outcomes), (1, 1, LONGER_BY), strict=True):
                if outcome is not None:
                    claim, sent = await bench.send(query_id)
                    results = [CallResult(sent, outcome)]
                    again = (query_id, claim.epoch, "small", MoveKind.RELEASE, "small", State.READY, WHY)
                    await bench.ledger.transition(Transition(*again, results, tier="small", attempts=1))
                (waiting,) = await bench.ledger.waiting("small", [query_id])
                earlier = (await earlier_calls([waiting], context)).get(query_id, NO_CALLS)
                executor = QueryExecutor(waiting, "small", context, earlier, left_usd=math.inf, budget_usd=1e-6)
                context.allowances.of(waiting.batch_id).lengths = AnswerLengths(
                    {LengthGroup("small", "", ""): [LengthRecord(1.0, 0.0, 100)]}
                )
                assert executor.caps.next_cap(bench.model) == raised * LEAST_CAP
            assert [attempt.outcome.status for attempt in executor.history] == [500]

    on_bench(story)


def test_a_line_that_no_call_is_cheap_enough_for_fails_with_the_fix(
    on_bench: OnBench, priced: SimulatorProcess
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, simulated_fleet(priced.url)) as context:
            batch = await hand_in(lines("d", max_cost_usd=1e-9), BatchSpec(source="test"), context)
            await work_off(context)
            assert await states(bench, batch) == {"failed": QUERIES}
            assert not await bench.rows("SELECT 1 FROM calls")
            (why,) = (await account(batch, context)).failures
            assert "raise max_cost_usd, or limit the answer with max_tokens" in why.reason

    on_bench(story)
