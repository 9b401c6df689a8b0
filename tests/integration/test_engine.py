"""Statements by the driver itself: its errors, and what becomes of the pool when connections are lost."""

import asyncio
import socket
from urllib.parse import parse_qs, quote

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import migrate
from db.engine import KEY_LOOKUP_SETTINGS, execute_raw, fetch, make_engine
from db.statement_errors import is_transient
from tests.databases import Databases
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

CANCEL = text("UPDATE batches SET cancelled_at = NULL")
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


def test_a_standby_is_given_up_and_counts_as_a_server_that_is_away(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        (before,) = await execute_raw(bench.engine, PID, {})
        for write in (execute_raw(bench.engine, CANCEL, {}), fetch(bench.engine, CANCEL)):
            async with bench.engine.connect() as connection:
                # As for whoever is connected to a primary that becomes a standby.
                await connection.execute(text("SET default_transaction_read_only = on"))
            with pytest.raises(DBAPIError) as refused:
                await write
            assert is_transient(refused.value)
            (after,) = await execute_raw(bench.engine, PID, {})
            assert after.pid != before.pid
            await fetch(bench.engine, CANCEL)
            before = after

    on_bench(story)


def test_of_several_hosts_the_one_that_takes_writes_is_found(databases: Databases, database_url: str) -> None:
    sockets = parse_qs(databases.url.partition("?")[2])["host"][0]
    name = database_url.partition("?")[0].rpartition("/")[2]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and it does not listen
        port = nobody.getsockname()[1]
    several = f"postgresql://postgres@127.0.0.1:{port},{quote(sockets, safe='')}:5432/{name}"

    async def ask() -> tuple[int, str]:
        engine = make_engine(several, settings=KEY_LOOKUP_SETTINGS)
        try:
            (row,) = await fetch(engine, text("SELECT 1 AS one, current_setting('role') AS role"))
            return row.one, row.role
        finally:
            await engine.dispose()

    assert asyncio.run(ask()) == (1, "pointsman_app")
    assert migrate.current(several) == migrate.newest()
