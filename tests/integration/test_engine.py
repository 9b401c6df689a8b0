"""Statements by the driver itself: its errors, and what becomes of the pool when connections are lost."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.engine import execute_raw
from db.statement_errors import is_transient
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

PID = text("SELECT pg_backend_pid() AS pid")


def test_rows_have_names_and_parameters_are_bound(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (row,) = await execute_raw(bench.engine, text("SELECT :a + 1 AS one, '100 %' AS share"), {"a": 41})
        assert (row.one, row.share) == (42, "100 %")
        assert await execute_raw(bench.engine, text("UPDATE batches SET cancelled_at = NULL"), {}) == ()

    on_bench(story)


def test_an_error_is_sqlalchemys_and_its_connection_is_used_again(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (before,) = await execute_raw(bench.engine, PID, {})
        with pytest.raises(DBAPIError) as refused:
            await execute_raw(bench.engine, text("SELECT 1 / :zero"), {"zero": 0})
        assert not is_transient(refused.value)
        (after,) = await execute_raw(bench.engine, PID, {})
        assert after.pid == before.pid

    on_bench(story)


def test_a_lost_connection_has_the_others_renewed(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with bench.engine.connect() as one, bench.engine.connect() as other:
            old = [(await each.execute(PID)).scalar_one() for each in (one, other)]
        ended = text("SELECT pg_terminate_backend(pid) FROM unnest(CAST(:pids AS int[])) AS pid")
        async with bench.owner() as owner:
            await execute_raw(owner, ended, {"pids": old})
        with pytest.raises(DBAPIError) as lost:
            await execute_raw(bench.engine, PID, {})
        assert is_transient(lost.value)
        (row,) = await execute_raw(bench.engine, PID, {})  # and not that the other one is lost too
        assert row.pid not in old

    on_bench(story)
