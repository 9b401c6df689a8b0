"""The log's evaluation on a real database: what production did, and what another router would have done."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from cli.command_errors import CommandError
from cli.main import app
from cli.training.log_evaluation import span_of
from db.engine import make_engine
from db.label_store import labelled_log
from db.reports import run_report
from db.reports.routing_log import logged_batches, pages_of
from tests.fleets import price_list_row, small_fleet

NOW = datetime(2026, 3, 1, tzinfo=UTC)

# 1 greeting at small; 1 question that was resumed, and escalated from small to large with the same number; 1 proof
# that the budget lowered; 1 pinned; 1 whose text was purged.
FILL = (
    price_list_row(small_fleet())
    + """
INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest, price_list,
                     simulated) VALUES
    (1, 'batch_a', 'a.jsonl', 5, 11, 15, 'test', 'd', 'p', false);
INSERT INTO prompts (query_id, batch_id, custom_id, line, body, options) VALUES
    (11, 1, 'hello', 1, '{"messages":[{"role":"user","content":"Hello!"}]}', NULL),
    (12, 1, 'hens', 2, '{"messages":[{"role":"user","content":"How many eggs do the hens of Ann lay?"}]}', NULL),
    (13, 1, 'proof', 3, '{"messages":[{"role":"user","content":"Prove that there is no largest prime."}]}', NULL),
    (14, 1, 'pinned', 4, '{"messages":[{"role":"user","content":"Hi"}]}', '{"pin": "large"}'),
    (15, 1, 'gone', 5, '{}', NULL);
INSERT INTO queries (id, batch_id, stage, state, tier, escalations, finished_at) VALUES
    (11, 1, 'small', 'done', 'small', 0, now()), (12, 1, 'large', 'done', 'large', 1, now()),
    (13, 1, 'small', 'done', 'small', 0, now()), (14, 1, 'large', 'done', 'large', 0, now()),
    (15, 1, 'small', 'done', 'small', 0, now());
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,
                   price_version, outcome, prompt_tokens, completion_tokens, cost_usd, finished_at, response) VALUES
    (1, 1, 11, 1, 'answer', 'small', 'mini', 'sim', 'm', 1, 'v', 'ok', 10, 10, 0.001, now(), NULL),
    (2, 1, 12, 1, 'answer', 'small', 'mini', 'sim', 'm', 1, 'v', 'ok', 10, 10, 0.001, now(),
     '{"choices":[{"message":{"content":"They lay 18"}}]}'),
    (3, 1, 12, 2, 'answer', 'large', 'maxi', 'sim', 'm', 1, 'v', 'ok', 10, 20, 0.010, now(), NULL),
    (4, 1, 13, 1, 'answer', 'small', 'mini', 'sim', 'm', 1, 'v', 'ok', 10, 10, 0.001, now(), NULL),
    (5, 1, 14, 1, 'answer', 'large', 'maxi', 'sim', 'm', 1, 'v', 'ok', 10, 10, 0.005, now(), NULL);
INSERT INTO answers (query_id, call_id, tier, model, confidence, accepted, response) VALUES
    (11, 1, 'small', 'm', 0.9, true, '{"choices":[{"message":{"content":"Hello!"}}]}'),
    (12, 3, 'large', 'm', 0.9, true, '{"choices":[{"message":{"content":"18 eggs. #### 18"}}]}'),
    (13, 4, 'small', 'm', 0.9, true, '{}'), (14, 5, 'large', 'm', 0.9, true, '{}');
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, confidence,
                       propensity, call_id, codes, reasons, detail) VALUES
    (1, 11, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'gate', 0.98, 1, NULL, '{}', '{}', '{}'),
    (1, 12, 1, 'route', 'advance', 'route', 'medium', 'ready', 'medium', 'v1', 0.6, 1, NULL, '{}', '{}', '{}'),
    (1, 12, 2, 'route', 'advance', 'route', 'small', 'ready', 'small', 'v1', 0.72, 0.9, NULL, '{}', '{}',
     '{"version": "abcabcabcabc"}'),
    (1, 13, 1, 'route', 'advance', 'route', 'large', 'ready', 'large', 'gate', 0.95, 1, NULL, '{}', '{}', '{}'),
    (1, 14, 1, 'route', 'advance', 'route', 'large', 'ready', 'large', 'pin', 1.0, 1, NULL, '{}', '{}', '{}'),
    (1, 15, 1, 'route', 'advance', 'route', 'small', 'ready', 'small', 'gate', NULL, 1, NULL, '{}', '{}', NULL),
    (1, 13, 1, 'budget', 'advance', 'large', 'small', 'ready', 'large', 'budget', NULL, NULL, NULL, '{}', '{}', NULL),
    (1, 12, 1, 'judge', 'advance', 'small', 'fallback', 'ready', 'small', 'judge', 0.41, NULL, 2,
     '{low_confidence}', '{"confidence 0.41 < 0.70"}', '{"usable": true, "source": "scorer"}'),
    (1, 12, 2, 'judge', 'finish', 'large', 'large', 'done', 'large', 'judge', 0.9, NULL, 3, '{}', '{}',
     '{"source": "scorer"}'),
    (1, 11, 1, 'judge', 'finish', 'small', 'small', 'done', 'small', 'judge', NULL, NULL, 1, '{}', '{}',
     '{"source": "none"}');
"""
)


@pytest.fixture
def evaluate(database_url: str, tmp_path: Path) -> Callable[..., Any]:
    """``pointsman evaluate … --json`` on a database that holds `FILL`."""
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(FILL)
    # A broker is named, so that none is started; nobody asks it.
    env = {"POINTSMAN_HOME": str(tmp_path), "DATABASE_URL": database_url, "BROKER_URL": "redis://127.0.0.1:1"}

    def run(*arguments: str, words: bool = False) -> Any:
        asked = ["evaluate", *arguments, *([] if words else ["--json"])]
        done = CliRunner(env=env).invoke(app, asked)
        if isinstance(done.exception, CommandError):
            return done.exception.message
        assert done.exit_code == 0, done.exception
        return done.stdout if words else json.loads(done.stdout)

    return run


def test_the_log_is_reported_by_who_decided(evaluate: Callable[..., Any]) -> None:
    report = evaluate("--from-log")
    assert report["n"] == 5
    stages = {stage: (own["queries"], own["escalated"]) for stage, own in report["stages"].items()}
    assert stages == {"pin": (1, 0), "gate": (2, 0), "classifier": (1, 1), "budget": (1, 0)}
    assert report["versions"] == {"abcabcabcabc": 1}
    assert report["tiers"]["small"]["escalation_rate"] == pytest.approx(1 / 3, abs=1e-4)
    assert report["answered_by"] == {"small": 2, "large": 2}
    assert report["cost"]["usd"] == pytest.approx(0.018)
    assert ("classifier", 0.7) in {(own["stage"], own["from"]) for own in report["confidence"]}


def test_explored_are_draws_that_no_budget_picked_among(evaluate: Callable[..., Any], database_url: str) -> None:
    assert evaluate("--from-log")["explored"] is None, "a budget lowered the proof"
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DELETE FROM decisions WHERE kind = 'budget'")
    assert evaluate("--from-log")["explored"] == {"small": {"stands": 0.0, "weight": 1.1}}


def test_the_judge_is_held_against_the_answer_that_was_taken(evaluate: Callable[..., Any]) -> None:
    report = evaluate("--from-log", "--batch", "batch_a")
    doubted = next(own for own in report["judge"] if own["rejected"])
    assert (doubted["source"], doubted["from"], doubted["confidence"]) == ("scorer", 0.4, 0.41)
    assert (doubted["followed"], doubted["next_stood"], doubted["compared"], doubted["agreed"]) == (1, 1, 1, 1)
    without = next(own for own in report["judge"] if own["source"] == "none")
    assert without["from"] is None
    assert "NOT known without labels" in evaluate("--from-log", words=True)


def test_labels_are_the_newest_of_each_answer(evaluate: Callable[..., Any], database_url: str) -> None:
    assert evaluate("--from-log")["labels"] is None
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by) VALUES"
            " (12, 1, 'large', 0, 'command', 'ann'), (12, 1, 'large', 1, 'command', 'bob'),"
            " (12, 1, 'small', 1, 'command', 'bob'), (11, 1, 'small', 0, 'command', 'ann')"
        )
    report = evaluate("--from-log")
    labels = report["labels"]
    assert (labels["labels"], labels["right"]) == (2, 0.5), "of the answers that stand"
    assert {stage: own["right"] for stage, own in labels["stages"].items()} == {"classifier": 1.0, "gate": 0.0}
    doubted = next(own for own in report["judge"] if own["from"] == 0.4)
    assert (doubted["labels"], doubted["right"]) == (1, 1.0)
    assert labels["ece"]["scorer"] == pytest.approx((0.59 + 0.1) / 2)


def test_what_the_budget_lowered_is_no_word_of_the_router(evaluate: Callable[..., Any], database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier,"
            " router, confidence, propensity, reasons) VALUES"
            " (1, 11, 2, 'route', 'advance', 'route', 'small', 'ready', 'small', 'budget', 0.9, 1, '{}'),"
            " (1, 13, 2, 'route', 'advance', 'route', 'large', 'ready', 'large', 'exploration', 0.9, 0.1, '{}'),"
            " (1, 13, 3, 'budget', 'advance', 'large', 'small', 'ready', 'large', 'budget', NULL, NULL, '{}');"
            "INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by) VALUES"
            " (11, 1, 'small', 0, 'command', 'ann'), (12, 1, 'large', 1, 'command', 'ann'),"
            " (13, 1, 'small', 1, 'command', 'ann')"
        )
    report = evaluate("--from-log")
    assert {stage: own["queries"] for stage, own in report["stages"].items()} == {
        "pin": 1,
        "gate": 1,
        "classifier": 1,
        "budget": 2,
    }
    assert report["labels"]["stages"].keys() == {"budget", "classifier"}
    assert report["explored"] is None, "what was drawn and is left are the cheap ones"

    async def chosen() -> dict[int, tuple[str, float]]:
        engine = make_engine(database_url)
        try:
            return {row.id: (row.chosen, row.propensity) async for row in labelled_log(engine, batch_ids=None)}
        finally:
            await engine.dispose()

    # Of what large would have answered to the proof nothing is known.
    assert asyncio.run(chosen()) == {11: ("small", 1.0), 12: ("small", 1.0)}


def test_another_router_decides_the_logged_queries_anew(evaluate: Callable[..., Any]) -> None:
    report = evaluate("--replay", "--router", "gate")
    assert (report["n"], report["unread"]) == (4, 1)
    assert report["confusion"]["large"] == {"large": 1, "medium": 1}, "the pinned one and the proof"
    assert report["confusion"]["small"]["small"] >= 1
    assert "pin" in report["decided_by"]
    assert report["cost"]["then_usd"] > 0
    assert "texts were purged" in " ".join(report["words"])
    assert evaluate("--replay", "--router", "default")["router"].startswith("default ")
    assert "would go to another tier" in evaluate("--replay", words=True)


def test_only_the_span_that_is_asked_for_is_read(evaluate: Callable[..., Any]) -> None:
    assert evaluate("--from-log", "--since", "2999-01-01")["n"] == 0
    assert evaluate("--replay", "--since", "1d")["n"] == 4
    assert evaluate("--from-log", "--batch", "batch_x") == "There is no batch batch_x."
    assert evaluate("--from-log", "--replay") == "Give exactly one of DATA, --from-log and --replay."
    assert "evaluates the routers that made the logged decisions" in evaluate("--from-log", "--router", "default")


def test_a_span_is_a_batch_or_a_moment() -> None:
    assert span_of(None, "36h", now=NOW).since == NOW - timedelta(hours=36)
    assert span_of(None, "2026-01-31", now=NOW).since == datetime(2026, 1, 31, tzinfo=UTC)
    assert span_of("batch_a", None, now=NOW).public_id == "batch_a"
    with pytest.raises(CommandError, match="Invalid time for --since"):
        span_of(None, "yesterday", now=NOW)
    with pytest.raises(CommandError, match="either"):
        span_of("batch_a", "1d", now=NOW)


def test_a_long_log_is_read_in_pages(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.reports.routing_log.PAGE", 2)
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(FILL)

    async def read() -> tuple[list[int], int, int]:
        engine = make_engine(database_url)
        try:
            (one,) = await logged_batches(engine)
            pages = [len(page) async for page in pages_of(engine, "log_queries", one)]
            pairs = [len(page) async for page in pages_of(engine, "log_pairs", one)]
            routes = await run_report(engine, "log_routes", batch_id=one.batch.id)
            return pages, sum(pairs), sum(row.queries for row in routes)
        finally:
            await engine.dispose()

    assert asyncio.run(read()) == ([2, 2, 1], 1, 5)
