"""The questions about batches, against figures reckoned by hand."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import timeline_view
from db.engine import make_engine
from db.reports import run_report
from db.reports.batch_progress import Batch, batch_progress, find_batch, newest_batch
from db.reports.batch_report import load_batch_report
from db.reports.batch_stats import BaselineLengths, BatchFigures, batch_figures, top_ratios
from db.reports.json_views import batch_as_json, timeline_as_json
from db.reports.length_ratios import CLIMB_LONGER, CLIMB_SPREAD, PAIR_SPREAD, LengthRatio, shrunk_ratio
from db.reports.query_timeline import find_queries, query_events
from db.reports.results import result_lines
from routing.fleet import Fleet, Model, Tier
from routing.price import Price
from tests.fleets import price_list_row

Value = TypeVar("Value")

# The top tier's first model: $2 in, $1 cached, $10 out per million tokens, at half price.
TOP = Price(2.0, 10.0, 1.0, "test", multiplier=0.5)


def _model(name: str, tier: str) -> Model:
    return Model(name=name, provider="sim", model=f"{name}-wire", tier=tier, price=TOP, context_tokens=8000)


FLEET = Fleet(
    name="test",
    simulated=True,
    providers={},
    models={"mini": _model("mini", "small"), "maxi": _model("maxi", "large")},
    tiers={
        "small": Tier("small", "small", 4, ("mini",), "large"),
        "large": Tier("large", "large", 4, ("maxi",), None),
    },
    digest="d",
)

FILL = (
    price_list_row(FLEET)
    + """
INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest, price_list,
                     simulated, created_at, ended_at) VALUES
    (1, 'batch_a', 'a.jsonl', 5, 11, 15, 'test', 'd', 'p', true, now() - interval '20 s', now() - interval '10 s'),
    (2, 'batch_b', 'b.jsonl', 1, 21, 21, 'test', 'other', 'p', false, now(), NULL);
INSERT INTO prompts (query_id, batch_id, custom_id, line, body, options) VALUES
    (11, 1, 'easy', 1, '{}', NULL), (12, 1, 'hard', 2, '{}', '{"pin": "small"}'), (13, 1, 'lost', 3, '{}', NULL),
    (14, 1, 'doubtful', 4, '{}', NULL), (15, 1, 'called off', 5, '{}', NULL), (21, 2, 'easy', 1, '{}', NULL);
INSERT INTO queries (id, batch_id, stage, state, tier, escalations, finished_at) VALUES
    (11, 1, 'small', 'done', 'small', 0, now()), (12, 1, 'large', 'done', 'large', 1, now()),
    (13, 1, 'fallback', 'failed', 'large', 1, now()), (14, 1, 'fallback', 'done', 'large', 1, now()),
    (15, 1, 'route', 'cancelled', NULL, 0, now()), (21, 2, 'route', 'ready', NULL, 0, NULL);
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,
                   price_version, outcome, status, latency_ms, prompt_tokens, cached_tokens, completion_tokens,
                   cost_usd, finished_at, request_id, created_at) VALUES
    (1, 1, 11, 1, 'answer', 'small', 'mini', 'sim', 'mini-wire', 1, 'v', 'ok', 200, 100, 1000, 400, 500, 0.0001,
     now(), 'req-1', now() - interval '19 s'),
    (2, 1, 12, 1, 'answer', 'small', 'mini', 'sim', 'mini-wire', 1, 'v', 'ok', 200, 200, 1000, 0, 500, 0.0002,
     now(), NULL, now() - interval '18 s'),
    (3, 1, 12, 2, 'answer', 'large', 'maxi', 'sim', 'maxi-wire', 1, 'v', 'ok', 200, 300, 1000, 0, 900, 0.007,
     now(), NULL, now() - interval '17 s'),
    (4, 1, 13, 1, 'answer', 'large', 'maxi', 'sim', 'maxi-wire', 0.05, 'v', 'server_error', 500, 50, 0, 0, 0, 0,
     now(), NULL, now() - interval '16 s'),
    (5, 1, 13, 1, 'answer', 'large', 'maxi', 'sim', 'maxi-wire', 0.05, 'v', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, now() - interval '15 s'),
    (6, 1, 14, 1, 'answer', 'small', 'mini', 'sim', 'mini-wire', 1, 'v', 'ok', 200, 400, 100, 0, 100, 0.00003,
     now(), NULL, now() - interval '14 s'),
    (7, 1, NULL, 0, 'route', 'small', 'mini', 'sim', 'mini-wire', 1, 'v', 'ok', 200, 999, 100, 0, 10, 0.00001,
     now(), NULL, now() - interval '19 s');
INSERT INTO answers (query_id, call_id, tier, model, confidence, accepted, response) VALUES
    (11, 1, 'small', 'mini-wire', 0.9, true, '{"id":"chatcmpl-1","choices":[{"x": 1}]}'),
    (12, 3, 'large', 'maxi-wire', 0.8, true, '{"id":"chatcmpl-3"}'),
    (14, 6, 'small', 'mini-wire', 0.4, false, '{"id":"chatcmpl-6"}');
INSERT INTO decisions (id, at, batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router,
                       score, confidence, call_id, codes, reasons) VALUES
    (1, now() - interval '19 s', 1, 12, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'pin', 0.1, 1.0,
     NULL, '{pinned}', '{"asked for by name"}'),
    (2, now() - interval '18 s', 1, 12, 1, 'judge', 'advance', 'small', 'fallback', 'queued', 'small', 'judge', NULL,
     0.3, 2, '{shape}', '{"confidence 0.30 < 0.70"}'),
    (3, now() - interval '17.5 s', 1, 12, 2, 'fallback', 'advance', 'fallback', 'large', 'queued', 'large', 'ladder',
     NULL, NULL, NULL, '{fallback,fallback}', '{"one rung up","of two"}'),
    (4, now() - interval '16 s', 1, 12, 3, 'judge', 'finish', 'large', 'large', 'done', 'large', 'judge', NULL, 0.8, 3,
     '{confident}', '{"confidence 0.80"}'),
    (5, now() - interval '15 s', 1, 13, 1, 'release', 'release', 'large', 'large', 'ready', 'large', 'failover', NULL,
     NULL, NULL, '{release}', '{"server error"}'),
    (6, now() - interval '14 s', 1, 13, 1, 'fallback', 'fail', 'fallback', 'fallback', 'failed', 'large', 'ladder',
     NULL, NULL, NULL, '{fallback,fallback}', '{"no tier is left","4 calls failed"}');
"""
)


@pytest.fixture
def ask_of(database_url: str) -> Callable[[Callable[[AsyncEngine], Awaitable[Any]]], Any]:
    """Runs a question against a database that holds `FILL`."""
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(FILL)

    def run(question: Callable[[AsyncEngine], Awaitable[Any]]) -> Any:
        async def opened() -> Any:
            engine = make_engine(database_url)
            try:
                return await question(engine)
            finally:
                await engine.dispose()

        return asyncio.run(opened())

    return run


Ask = Callable[[Callable[[AsyncEngine], Awaitable[Any]]], Any]


async def _figures(engine: AsyncEngine) -> BatchFigures:
    batch = await find_batch(engine, "batch_a")
    assert batch is not None
    return await batch_figures(engine, batch)


def test_a_batch_is_found_by_its_public_id_or_as_the_newest(ask_of: Ask) -> None:
    async def question(engine: AsyncEngine) -> tuple[Batch | None, Batch | None, Batch | None]:
        return await find_batch(engine, "batch_a"), await find_batch(engine, "batch_x"), await newest_batch(engine)

    named, unknown, newest = ask_of(question)
    assert (named.id, named.total) == (1, 5)
    assert unknown is None
    assert newest.public_id == "batch_b"


def test_progress_counts_each_query_once(ask_of: Ask) -> None:
    progress = ask_of(lambda engine: batch_progress(engine, 1))
    assert (progress.done, progress.failed, progress.cancelled, progress.finished) == (3, 1, 1, 5)
    assert progress.ended
    assert progress.escalated == 3
    assert progress.by_tier == {"small": 1, "large": 2}
    assert progress.wall_s == pytest.approx(10.0, abs=0.01)
    assert (progress.cost_usd, progress.reserved_usd) == (pytest.approx(0.00734), 0.05)
    open_one = ask_of(lambda engine: batch_progress(engine, 2))
    assert (open_one.waiting, open_one.ended, open_one.open_by_stage) == (1, False, {"route": 1})


def test_the_cost_is_that_of_every_call_at_its_worst_where_unknown(ask_of: Ask) -> None:
    figures = ask_of(_figures)
    assert figures.cost_usd == pytest.approx(0.0001 + 0.0002 + 0.007 + 0 + 0.05 + 0.00003 + 0.00001)
    assert (figures.calls, figures.open_calls, figures.failed_calls) == (7, 1, 1)
    assert figures.router_cost_usd == pytest.approx(0.00001)


def test_the_baseline_prices_answered_queries_at_the_top_tier(ask_of: Ask) -> None:
    figures = ask_of(_figures)
    longer = shrunk_ratio(1.8, 1)  # one query was answered by both
    easy = 0.5 * ((1000 - 400) * 2.0 + 400 * 1.0 + longer * 500 * 10.0) / 1e6
    hard = 0.007  # it came to the top tier: what it really cost there
    doubtful = 0.5 * (100 * 2.0 + longer * 100 * 10.0) / 1e6
    lost = 0.05  # without an answer: what its calls to the top tier cost
    assert figures.baseline_cost_usd == pytest.approx(easy + hard + doubtful + lost)
    assert (figures.unanswered_usd, figures.unanswered_baseline_usd) == (lost, lost)
    assert figures.baseline_lengths == BaselineLengths(own=1, assumed=2)
    assert figures.saving_usd == pytest.approx(figures.baseline_cost_usd - figures.cost_usd)
    assert figures.router_share_of_saving == pytest.approx(0.00001 / figures.saving_usd)


USUAL_MINI = (0.0001 + 0.0002 + 0.00003) / 3

LOST = """
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,
                   price_version, outcome, cost_usd, finished_at)
VALUES (8, 1, {query_id}, 1, 'answer', 'small', 'mini', 'sim', 'mini-wire', 0.3, 'v', 'unknown', 0.3, now())
"""


@pytest.mark.parametrize(("query_id", "lost_usd"), [(13, USUAL_MINI), (15, 0.0)])
def test_what_unanswered_queries_cost_below_the_top_is_lost_if_they_came_there(
    ask_of: Ask, database_url: str, query_id: int, lost_usd: float
) -> None:
    before = ask_of(_figures)
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(LOST.format(query_id=query_id))
    figures = ask_of(_figures)
    assert figures.unanswered_usd == pytest.approx(before.unanswered_usd + 0.3)
    assert figures.saving_usd == pytest.approx(before.saving_usd - lost_usd)
    assert figures.baseline_lengths == before.baseline_lengths
    assert figures.unconfirmed_usd == pytest.approx(0.05 + 0.3)
    assert figures.unconfirmed_baseline_usd == pytest.approx(0.05 + (0.3 if query_id == 15 else 0))
    assert figures.unconfirmed_usual_usd == pytest.approx(before.unconfirmed_usual_usd + USUAL_MINI)


def test_a_failed_call_to_the_top_tier_is_part_of_what_an_answer_costs_there(ask_of: Ask, database_url: str) -> None:
    before = ask_of(_figures)
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(LOST.format(query_id=12).replace("'small', 'mini'", "'large', 'maxi'"))
    figures = ask_of(_figures)
    assert figures.cost_usd == pytest.approx(before.cost_usd + 0.3)
    assert figures.saving_usd == pytest.approx(before.saving_usd), "the top tier alone would have paid it as well"
    assert (figures.unconfirmed_usd, figures.unconfirmed_baseline_usd) == (pytest.approx(0.35), pytest.approx(0.35))


MORE_PAIRS = """
INSERT INTO queries (id, batch_id, stage, state, tier, finished_at)
SELECT 1000 + n, 9, 'small', 'done', 'small', now() FROM generate_series(1, 91) AS n;
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,
                   price_version, outcome, completion_tokens, cost_usd, finished_at)
SELECT 100 + 10 * n + top, 1, 1000 + n, 1, CASE top WHEN 1 THEN 'audit' ELSE 'answer' END,
       CASE top WHEN 1 THEN 'large' ELSE 'small' END, 'd', 'sim', 'm', 1, 'v', 'ok', 500 + 400 * top, 0, now()
FROM generate_series(1, 91) AS n, generate_series(0, 1) AS top
"""
EARLIER = """UPDATE batches SET plan = '{"tiers": {"small": {"top_tokens": 1100}}}' WHERE id = 1"""


@pytest.mark.parametrize(
    ("known", "longer", "lengths"),
    [
        (
            MORE_PAIRS,
            shrunk_ratio(1.8, 91),
            BaselineLengths(own=1, pairs=2),
        ),  # audits; the one that climbed does not count
        (
            EARLIER,
            shrunk_ratio(1.8, 1, prior=3.0, spread=PAIR_SPREAD / 50**0.5),
            BaselineLengths(own=1, earlier_batches=2),
        ),
    ],
)
def test_the_baseline_counts_the_top_tiers_own_lengths_where_they_are_known(
    ask_of: Ask, database_url: str, known: str, longer: float, lengths: BaselineLengths
) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(known)
    figures = ask_of(_figures)
    counted = 0.5 * (700 * 2.0 + 400 * 1.0 + longer * 600 * 10.0) / 1e6
    assert figures.baseline_cost_usd == pytest.approx(0.057 + counted)
    assert figures.baseline_lengths == lengths


PAIRS_BY_WORKLOAD = """
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, reasons,
                       detail)
SELECT 1, id, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'rule', '{r}',
       CASE WHEN id = 11 OR id > 1050 THEN '{"workload": "tone", "shape": "choice"}'::jsonb
            ELSE '{"workload": "sums", "shape": "text"}' END
FROM queries WHERE id = 11 OR id > 1000;
UPDATE calls SET completion_tokens = 500 WHERE query_id > 1050
"""


def test_the_baseline_counts_the_lengths_of_the_workload_where_enough_pairs_know_them(
    ask_of: Ask, database_url: str
) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(MORE_PAIRS)
        connection.execute(PAIRS_BY_WORKLOAD)

    async def question(engine: AsyncEngine) -> tuple[BatchFigures, float]:
        batch = await find_batch(engine, "batch_a")
        assert batch is not None
        report = await load_batch_report(engine, batch, now=datetime.now(UTC), audited=False)
        return report.figures, {one.name: one.cost_usd for one in report.controls}["always large"]

    figures, alone = ask_of(question)
    pooled = shrunk_ratio((50 * 900 + 41 * 500) / (91 * 500), 91)
    label = 0.5 * ((1000 - 400) * 2.0 + 400 * 1.0 + 500 * 10.0) / 1e6  # labels are as long there
    other = 0.5 * (100 * 2.0 + pooled * 100 * 10.0) / 1e6  # no pair is known to be like it
    assert figures.baseline_cost_usd == pytest.approx(0.057 + label + other)
    assert figures.baseline_lengths == BaselineLengths(own=1, pairs=2)
    assert alone == pytest.approx(figures.baseline_cost_usd)


def test_a_tier_that_only_audits_asked_has_no_answers_to_count(ask_of: Ask, database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(MORE_PAIRS)
        connection.execute(PAIRS_BY_WORKLOAD)
        connection.execute("DELETE FROM calls WHERE tier = 'large' AND purpose <> 'audit'")
        connection.execute("UPDATE calls SET model = 'mini-wire' WHERE tier = 'small'")

    async def question(engine: AsyncEngine) -> BatchFigures:
        batch = await find_batch(engine, "batch_a")
        assert batch is not None
        small = replace(batch.price_list.first("small"), model="mini-wire")
        return await batch_figures(engine, batch, baseline=small)

    figures = ask_of(question)
    assert figures.second_baseline is not None
    assert figures.second_baseline.cost_usd > 0


CLIMBED_TO_REASON = """
UPDATE calls SET reasoning_tokens = 800 WHERE batch_id = 1 AND query_id = 12 AND tier = 'large' AND outcome = 'ok'
"""


def test_answers_that_climbed_do_not_stand_in_for_earlier_ones_of_a_workload(ask_of: Ask, database_url: str) -> None:
    async def of_workloads(engine: AsyncEngine) -> list[LengthRatio]:
        return [one for one in await top_ratios(engine, "batch_a") if one.workload is not None]

    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(MORE_PAIRS)
        connection.execute(PAIRS_BY_WORKLOAD)
        by_pairs = ask_of(of_workloads)
        connection.execute(CLIMBED_TO_REASON)
        connection.execute(EARLIER)
    assert ask_of(of_workloads) == by_pairs
    assert len(by_pairs) == 2
    assert {one.offset for one in by_pairs} == {0.0}, "no pair drawn at random reasoned"


def test_earlier_batches_count_beside_the_climbs_of_a_workload(ask_of: Ask, database_url: str) -> None:
    plan = {"answer_lengths": [["large", "sums", "text", 300, 400, 900], ["small", "sums", "text", 300, 0, 900]]}

    async def of_sums(engine: AsyncEngine) -> LengthRatio:
        return next(one for one in await top_ratios(engine, "batch_a") if one.workload == "sums")

    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(MORE_PAIRS)
        connection.execute(PAIRS_BY_WORKLOAD)
        connection.execute("UPDATE calls SET purpose = 'answer' WHERE purpose = 'audit'")
        climbs = ask_of(of_sums)
        connection.execute("UPDATE batches SET plan = %s WHERE id = 1", (json.dumps(plan),))
    both = ask_of(of_sums)
    assert climbs.offset == 0.0, "those that climbed did not reason"
    assert both.offset == pytest.approx(200.0), "the 400 tokens of earlier batches weigh as much as 50 climbs"
    assert both.ratio < climbs.ratio


REASONING = """
UPDATE calls SET completion_tokens = 50 + query_id % 40 WHERE query_id > 1000 AND tier = 'small';
UPDATE calls SET completion_tokens = 350 + query_id % 40, reasoning_tokens = {named}
WHERE query_id > 1000 AND tier = 'large'
"""


@pytest.mark.parametrize("named", [300, 0])
def test_reasoning_does_not_grow_with_the_answer(ask_of: Ask, database_url: str, named: int) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(MORE_PAIRS)
        connection.execute(REASONING.format(named=named))
    figures = ask_of(_figures)
    counted = 0.5 * (700 * 2.0 + 400 * 1.0 + (600 + 2 * 300) * 10.0) / 1e6  # two answers: 500 and 100 tokens of text
    assert figures.baseline_cost_usd == pytest.approx(0.057 + counted, rel=0.01)


def test_reasoning_of_queries_that_climbed_counts_less_for_the_others(ask_of: Ask, database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(MORE_PAIRS)
        connection.execute(REASONING.format(named=300))
        connection.execute("UPDATE calls SET purpose = 'answer' WHERE purpose = 'audit'")
    figures = ask_of(_figures)
    reasoning = 300 * math.exp(-CLIMB_LONGER)
    counted = 0.5 * (700 * 2.0 + 400 * 1.0 + (600 + 2 * reasoning) * 10.0) / 1e6
    assert figures.baseline_cost_usd == pytest.approx(0.057 + counted, rel=0.01)
    low, high = figures.baseline_range_usd
    assert low < 0.057 + counted < high, "it says how far off this may be"
    assert high - low > 2 * CLIMB_SPREAD * counted / 2
    assert not figures.baseline_is_guess


def test_a_baseline_at_a_tier_that_hardly_answered_is_a_range(ask_of: Ask) -> None:
    figures = ask_of(_figures)
    assert figures.baseline_is_guess, "one answer of large"
    low, high = figures.baseline_range_usd
    reasoned = 2 * 0.5 * 1_500 * 10.0 / 1e6
    assert low < figures.baseline_cost_usd < figures.baseline_cost_usd + reasoned < high


def test_earlier_batches_count_for_queries_without_a_workload(ask_of: Ask, database_url: str) -> None:
    plan = {"answer_lengths": [["large", "", "text", 300, 400, 900], ["small", "", "text", 300, 0, 900]]}
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DELETE FROM calls WHERE batch_id = 1 AND tier = 'large'")
        connection.execute("UPDATE batches SET plan = %s::jsonb WHERE id = 1", [json.dumps(plan)])
    figures = ask_of(_figures)
    counted = 0.5 * (700 * 2.0 + 400 * 1.0 + (600 + 2 * 400) * 10.0) / 1e6
    assert figures.baseline_cost_usd == pytest.approx(counted + 0.0002), "the call of one answer is gone, not its climb"
    assert figures.baseline_lengths == BaselineLengths(earlier_batches=2)


def test_each_tier_has_its_answers_calls_and_latencies(ask_of: Ask) -> None:
    small, large = ask_of(_figures).tiers
    assert (small.tier, small.queries, small.answered, small.unaccepted) == ("small", 3, 2, 1)
    assert (large.tier, large.queries, large.answered, large.failed_calls) == ("large", 2, 1, 1)
    assert small.latency_ms == (200.0, 380.0, 396.0)
    assert small.confidence == pytest.approx(0.65)


def test_failures_are_reported_with_their_last_reason(ask_of: Ask) -> None:
    (why,) = ask_of(_figures).failures
    assert (why.state, why.reason, why.queries, why.example) == ("failed", "no tier is left; 4 calls failed", 1, "lost")


def test_the_json_report_has_the_promised_keys_and_adds_up(ask_of: Ask) -> None:
    told = json.loads(json.dumps(batch_as_json(ask_of(_figures))))
    promised = "batch_id total completed failed escalated calls cost_usd baseline_cost_usd router_cost_usd wall_s"
    assert set(f"{promised} queries_per_s by_tier".split()) <= told.keys()
    assert sum(told["by_tier"].values()) == told["completed"] == 3
    assert told["completed"] + told["failed"] + told["cancelled"] + told["open"] == told["total"]
    assert told["queries_per_s"] == pytest.approx(0.3, abs=0.01)


def test_results_are_openai_lines_in_the_order_of_the_input(ask_of: Ask) -> None:
    async def question(engine: AsyncEngine) -> list[bytes]:
        return [line async for line in result_lines(engine, 1)]

    lines = [json.loads(line) for line in ask_of(question)]
    assert [line["custom_id"] for line in lines] == ["easy", "hard", "lost", "doubtful", "called off"]
    easy, hard, lost, doubtful, called_off = lines
    assert easy["response"]["status_code"] == 200
    assert easy["response"]["request_id"] == "req-1"
    assert easy["response"]["body"] == {"id": "chatcmpl-1", "choices": [{"x": 1}]}
    assert easy["error"] is None
    assert hard["pointsman"]["escalations"] == 1
    assert hard["pointsman"]["cost_usd"] == pytest.approx(0.0072)
    assert hard["pointsman"]["reasons"] == [
        "asked for by name",
        "confidence 0.30 < 0.70",
        "one rung up",
        "of two",
        "confidence 0.80",
    ]
    assert lost["response"] is None
    assert lost["error"] == {"code": "query_failed", "message": "no tier is left; 4 calls failed"}
    assert doubtful["pointsman"]["accepted"] is False
    assert (called_off["error"]["code"], called_off["pointsman"]["state"]) == ("batch_cancelled", "cancelled")


def test_open_queries_have_no_result_line_yet(ask_of: Ask) -> None:
    async def question(engine: AsyncEngine) -> list[bytes]:
        return [line async for line in result_lines(engine, 2)]

    assert ask_of(question) == []


def test_a_query_is_found_by_custom_id_by_batch_and_by_number(ask_of: Ask) -> None:
    async def question(engine: AsyncEngine) -> list[list[int]]:
        names = [("easy", None), ("easy", "batch_a"), ("12", None), ("12", "batch_a"), ("nobody", None)]
        return [[row.id for row in await find_queries(engine, name, public_id=public_id)] for name, public_id in names]

    assert ask_of(question) == [[21, 11], [11], [12], [], []]


def test_the_story_has_every_call_and_decision_in_order(ask_of: Ask) -> None:
    async def question(engine: AsyncEngine) -> tuple[Any, Any]:
        (query,) = await find_queries(engine, "hard")
        return query, await query_events(engine, query.id)

    query, events = ask_of(question)
    assert [row.kind for row in events] == ["route", "answer", "judge", "fallback", "answer", "judge"]
    told = timeline_as_json(query, events)
    assert (told["state"], told["tier"], told["pin"]) == ("done", "large", "small")
    assert told["cost_usd"] == pytest.approx(0.0072)
    drawn = "\n".join(str(branch.label) for branch in timeline_view.draw(query, events).children)
    steps = ["submitted", "routed", "call", "judged    rejected", "escalated to large", "call", "judged    accepted"]
    places = [drawn.index(step) for step in steps[:5]]
    assert places == sorted(places)
    assert "answered by maxi-wire (large), confidence 0.80 · $0.007200 in total" in drawn


def test_the_list_of_batches_has_the_newest_first(ask_of: Ask) -> None:
    rows = ask_of(lambda engine: run_report(engine, "batches", rows=10))
    assert [(row.public_id, row.done, row.failed, row.cancelled, row.open) for row in rows] == [
        ("batch_b", 0, 0, 0, 1),
        ("batch_a", 3, 1, 1, 0),
    ]


def test_the_depths_count_what_is_open_per_stage(ask_of: Ask) -> None:
    (row,) = ask_of(lambda engine: run_report(engine, "queue_depths"))
    assert (row.stage, row.ready, row.queued, row.running, row.held) == ("route", 1, 0, 0, 0)


WORKLOADS = """
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, reasons,
                       detail) VALUES
    (1, 11, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'rule', '{r}', '{"workload": "tickets"}'),
    (1, 12, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'rule', '{r}', '{"workload": "tickets"}'),
    (1, 13, 1, 'route', 'advance', 'route', 'large', 'ready', 'large', 'ladder', '{r}', '{"category": "general"}'),
    (1, 14, 1, 'route', 'advance', 'route', 'large', 'ready', 'large', 'pilot', '{r}', '{"workload": "prompt-1"}');
UPDATE queries SET pilot = true WHERE id = 14;
INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by) VALUES
    (11, 1, 'small', 1.0, 'cli', 'me'), (12, 1, 'small', 0.0, 'cli', 'me'), (12, 1, 'large', 0.5, 'cli', 'me'),
    (14, 1, 'small', 0.25, 'web-uncertain', 'me');
"""


def test_each_workload_has_its_share_cost_escalations_and_labels(ask_of: Ask, database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(WORKLOADS)
    found = batch_as_json(ask_of(_figures))["workloads"]
    assert [one["workload"] for one in found] == ["", "tickets"], (
        "the most expensive first; a prompt of one query is none"
    )
    nameless, tickets = found
    assert tickets == {
        "workload": "tickets",
        "queries": 2,
        "answered": 2,
        "escalated": 1,
        "cost_usd": pytest.approx(0.0001 + 0.0002 + 0.007),
        "labels": 2,
        "grade": 0.75,
        "share": 0.4,
    }
    # What was cancelled before it was routed is of no workload; a sampled query climbs on purpose.
    assert (nameless["queries"], nameless["answered"], nameless["escalated"], nameless["labels"]) == (2, 1, 1, 0)
    figures = ask_of(_figures)
    assert (figures.progress.escalated, figures.escalated_by) == (2, {"fallback": 1}), "of one the log has no climb"
    # An open call counts at its worst case; what routed several queries at once is not a query's.
    assert nameless["cost_usd"] == pytest.approx(0.05 + 0.00003)


SAID_TWICE = """
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, codes,
                       reasons) VALUES
    (1, 14, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'pilot', '{pilot}', '{sampled}'),
    (1, 14, 1, 'judge', 'advance', 'small', 'fallback', 'ready', 'small', 'judge', '{pilot,low_confidence}',
     '{sampled,"0.40 < 0.70"}'),
    (1, 14, 2, 'fallback', 'advance', 'fallback', 'large', 'ready', 'large', 'ladder',
     '{pilot,low_confidence,fallback}', '{"small: sampled","small: 0.40 < 0.70","up to large"}'),
    (1, 14, 3, 'judge', 'finish', 'large', 'large', 'done', 'large', 'judge', '{top_tier}', '{"the top tier"}')
"""


def test_the_report_gives_each_reason_once(ask_of: Ask, database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(SAID_TWICE)

    async def question(engine: AsyncEngine) -> Any:
        batch = await find_batch(engine, "batch_a")
        assert batch is not None
        return await load_batch_report(engine, batch, now=datetime.now(UTC), audited=False)

    report = ask_of(question)
    doubtful = next(each for each in report.least_confident if each.query_id == 14)
    assert doubtful.reasons == ("sampled", "small: 0.40 < 0.70", "up to large", "the top tier")
    assert {each.reason for each in report.rejections} == {"shape"}, "that a query is sampled rejects nothing"
