"""What statements read, counted by Postgres itself, so that a slow machine counts the same."""

from typing import Any

from sqlalchemy import text

from db.ledger import _encode, _move_rows, _results
from db.session import KEYED
from db.statements import statement
from routing.lifecycle import ROUTE
from tests.integration.bench import Bench, OnBench, advance

IN_THE_BROKER = 2_000
GROUP = 100

READ = text("SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")


async def rows_read(bench: Bench, name: str, params: dict[str, Any]) -> int:
    """Rows that the statement reads; nothing of it stays."""
    async with bench.engine.connect() as connection:
        await connection.execute(text("BEGIN"))
        for setting, value in KEYED.items():
            await connection.execute(text(f"SET LOCAL {setting} = {value}"))
        await connection.execute(statement(name), params)
        read = int((await connection.execute(READ)).scalar_one())
        await connection.execute(text("ROLLBACK"))
    return read


async def queued_at_small(bench: Bench) -> list[int]:
    """A stage with a full window, and a group of queries on their way there, claimed at the route stage."""
    await bench.submit(IN_THE_BROKER)
    await bench.rows("UPDATE queries SET stage = 'small', state = 'queued'")
    return await bench.submit(GROUP)


def test_a_group_of_conclusions_counts_the_window_once(on_bench: OnBench) -> None:
    async def story(bench: Bench) -> None:
        group = await queued_at_small(bench)
        await bench.rows("INSERT INTO stages (stage, depth_window) VALUES ('small', 10000)")
        claims = await bench.ledger.claim_many([(ROUTE, one, None) for one in group])
        moves = _move_rows([advance(one, claims[one].epoch, ROUTE, "small")._replace(publish=True) for one in group])
        read = await rows_read(bench, "conclude", {"moves": _encode(moves), **_results([])})
        # Counted for each row that moves, these would be two hundred thousand.
        assert read < 3 * IN_THE_BROKER

    on_bench(story)


def test_where_a_batch_begins_is_asked_of_its_own_decisions(on_bench: OnBench) -> None:
    async def story(bench: Bench) -> None:
        await bench.rows(
            "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons)"
            " SELECT CASE WHEN n <= 20000 THEN 1 ELSE 2 END, n, 1, 'route', 'advance', 'route', 'small', 'ready', '{}'"
            " FROM generate_series(1, 20200) AS n"
        )
        # Had it to be the least id of all that are in the batch, the planner would walk the key through the others.
        read = await rows_read(bench, "seal_bounds", {"batch_id": 2})
        assert 200 <= read < 1_000

    on_bench(story)
