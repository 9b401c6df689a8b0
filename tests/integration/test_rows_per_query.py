"""What statements read, counted by Postgres itself, so that a slow machine counts the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import TextClause, text

from db.engine import KEY_LOOKUP_SETTINGS
from db.ledger_encoding import encode_transitions, result_params, to_json
from db.reports import report
from db.sql import statement
from routing.lifecycle import ROUTE
from tests.integration.ledger_fixtures import LedgerHarness, OnBench, advance
from tests.integration.test_audit_seals import as_owner

IN_THE_BROKER = 2_000
GROUP = 100

READ = text("SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")


async def rows_read(bench: LedgerHarness, clause: TextClause, params: dict[str, Any]) -> int:
    """Rows that the statement reads; nothing of it stays."""
    async with bench.engine.connect() as connection:
        await connection.execute(text("BEGIN"))
        for setting, value in KEY_LOOKUP_SETTINGS.items():
            await connection.execute(text(f"SET LOCAL {setting} = {value}"))
        # What this connection read before is counted in until it has been passed on, at most once a second.
        before = int((await connection.execute(READ)).scalar_one() or 0)
        await connection.execute(clause, params)
        read = int((await connection.execute(READ)).scalar_one())
        await connection.execute(text("ROLLBACK"))
    return read - before


async def queued_at_small(bench: LedgerHarness) -> list[int]:
    """A stage with a full window, and a group of queries on their way there, claimed at the route stage."""
    await bench.submit(IN_THE_BROKER)
    await bench.rows("UPDATE queries SET stage = 'small', state = 'queued' WHERE state = 'ready'")
    return await bench.submit(GROUP)


def test_a_group_of_conclusions_counts_the_window_once(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        group = await queued_at_small(bench)
        await bench.rows("INSERT INTO stages (stage, depth_window) VALUES ('small', 10000)")
        claims = await bench.ledger.claim_many([(ROUTE, one, None) for one in group])
        moves = encode_transitions(
            [advance(one, claims[one].epoch, ROUTE, "small")._replace(publish=True) for one in group]
        )
        read = await rows_read(bench, statement("apply_transitions"), {"moves": to_json(moves), **result_params([])})
        # Counted for each row that moves, these would be two hundred thousand.
        assert read < 3 * IN_THE_BROKER

    on_bench(story)


def test_where_a_batch_begins_is_asked_of_its_own_decisions(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        await bench.rows(
            "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons)"
            " SELECT CASE WHEN n <= 20000 THEN 1 ELSE 2 END, n, 1, 'route', 'advance', 'route', 'small', 'ready', '{}'"
            " FROM generate_series(1, 20200) AS n"
        )
        await as_owner(
            bench,
            "INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest,"
            " price_list, simulated, ended_at)"
            " VALUES (2, 'batch_2', 'test', 200, 20001, 20200, '', '', '', true, now())",
        )
        # Had it to be the least id of all that are in the batch, the planner would walk the key through the others.
        read = await rows_read(bench, text("SELECT pointsman_seal(2, 20000)"), {})
        assert 200 <= read < 1_000

    on_bench(story)


def test_behind_a_long_history_a_window_is_filled_from_its_own_stage(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with bench.engine.connect() as owner:
            await owner.exec_driver_sql("SET ROLE NONE")
            await owner.exec_driver_sql(
                "INSERT INTO queries (id, batch_id, stage, state, finished_at)"
                " SELECT 1000000000 + n, 1000000, 'small', 'done', now() FROM generate_series(1, 30000) AS n"
            )
            await owner.exec_driver_sql("VACUUM ANALYZE queries")
            await owner.exec_driver_sql("SET ROLE pointsman_app")
        await queued_at_small(bench)
        params = {"stage": ROUTE, "room": 10, "sources": ["ready"], "simulated": None}
        assert await rows_read(bench, statement("fill_window"), params) < GROUP

    on_bench(story)


def test_a_look_that_finds_nothing_plans_no_statement_over_many_tables(
    on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(bench: LedgerHarness) -> None:
        await bench.submit(1)
        ran = []

        async def named(name: str, **_: object) -> list[Any]:
            ran.append(name)
            return []

        monkeypatch.setattr(bench.ledger, "_named", named)
        assert await bench.ledger.release_held(deployments=["d"]) == 0
        assert await bench.ledger.share_answers() == 0
        assert ran == []

    on_bench(story)


FRESH = 1_000
WRITTEN = (
    "INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest,"
    " price_list, simulated) VALUES (1, 'batch_1', 'test', :n, 1, :n, '', '', '', true)",
    "INSERT INTO queries (id, batch_id, stage, state, finished_at)"
    " SELECT n, 1, 'small', 'done', now() FROM generate_series(1, CAST(:n AS integer)) AS n",
    "INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,"
    " price_version, outcome, finished_at, cost_usd) SELECT 2 * n + top, 1, n, 1, 'answer',"
    " CASE top WHEN 1 THEN 'large' ELSE 'small' END, 'd', 'p', 'm', 0, 'v', 'ok', now(), 1"
    " FROM generate_series(1, CAST(:n AS integer)) AS n, generate_series(0, 1) AS top",
    "INSERT INTO answers (query_id, call_id, tier, model, accepted, response)"
    " SELECT n, 2 * n, 'small', 'm', true, '{}' FROM generate_series(1, CAST(:n AS integer)) AS n",
    "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, reasons,"
    """ detail) SELECT 1, n, 1, 'route', 'advance', 'route', 'small', 'ready', 'gate', '{}', '{"workload": "w"}'"""
    " FROM generate_series(1, CAST(:n AS integer)) AS n",
    "INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by)"
    " SELECT n, 1, 'small', 1, 'file', 'me' FROM generate_series(1, CAST(:n AS integer)) AS n",
)
PRICES = {key: [1] for key in ("input_usd_per_mtok", "cached_usd_per_mtok", "output_usd_per_mtok", "multipliers")}
RATIOS = {"names": ["top"], "tiers": ["large"], "workloads": [None], "shapes": [None]}
GIVEN = {"batch_id": 1, "names": ["top"], "tiers": ["large"], "models": [""], "ladder": ["small", "large"], **PRICES}
GIVEN |= {"ratio_" + key: value for key, value in RATIOS.items()} | {
    "ratios": [1.0],
    "offsets": [0.0],
    "unsent": [],
    "noted": True,
}


def handled(node: dict[str, Any]) -> Iterator[int]:
    """The rows that each node of a plan puts out or drops."""
    rows = node["Actual Rows"] + node.get("Rows Removed by Join Filter", 0) + node.get("Rows Removed by Filter", 0)
    yield int(rows * node["Actual Loops"])
    for child in node.get("Plans", ()):
        yield from handled(child)


@pytest.mark.parametrize("name", ["batch_costs", "batch_workloads"])
def test_the_figures_of_a_batch_that_was_just_written_do_not_take_the_square_of_its_queries(
    on_bench: OnBench, name: str
) -> None:
    async def story(bench: LedgerHarness) -> None:
        for sql in WRITTEN:
            await bench.rows_as_owner(sql, **({"n": FRESH} if ":n" in sql else {}))
        asked = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {report(name).text}")
        ((plan,),) = await bench.rows(asked.text, **{key: GIVEN[key] for key in asked.compile().params})
        assert max(handled(plan[0]["Plan"])) < 10 * FRESH

    on_bench(story)
