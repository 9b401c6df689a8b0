"""PgBouncer in transaction mode between us and Postgres: each statement may be at another server connection."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import psycopg
import pytest
from sqlalchemy import text

from db.engine import KEY_LOOKUP_SETTINGS, PooledLoginError, execute_raw, fetch, make_engine
from db.leader_election import LeaderElection
from providers.transport.reachable import accepts_connections
from tests.databases import Databases
from workers.child_process import spawn, tail
from workers.embedded.postgres import postgres_account

LOGIN = "pooled"
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@pytest.fixture
def pooled(databases: Databases, database_url: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of the pooler of two server connections for a login of the application, and of Postgres itself."""
    if PROGRAM is None:
        pytest.skip("NOTHING WAS TESTED THROUGH PGBOUNCER: it is not installed (Debian: apt-get install pgbouncer)")
    sockets = parse_qs(databases.url.partition("?")[2])["host"][0]
    name = database_url.partition("?")[0].rpartition("/")[2]
    databases.execute(f"CREATE ROLE {LOGIN} LOGIN IN ROLE pointsman_app")
    account = postgres_account()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "pgbouncer"
    folder.mkdir()
    (folder / "users.txt").write_text(f'"{LOGIN}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host={sockets} dbname={name}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
        f"pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 50\n"
    )
    if account is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.uid, account.gid)
    process = spawn(
        [PROGRAM, folder / "pgbouncer.ini"], log=tmp_path / "pgbouncer.log", environ={}, cwd=folder, account=account
    )
    try:
        deadline = time.monotonic() + 30
        while not accepts_connections("127.0.0.1", port, timeout_s=1.0):
            assert time.monotonic() < deadline, tail(tmp_path / "pgbouncer.log")
            time.sleep(0.05)
        yield f"postgresql://{LOGIN}@127.0.0.1:{port}/{name}?pgbouncer=true", database_url
    finally:
        process.kill()
        process.wait()
        databases.drop(name)
        databases.execute(f"DROP ROLE {LOGIN}")


def test_a_login_without_the_settings_is_refused_with_the_statements_that_make_them(
    pooled: tuple[str, str], databases: Databases
) -> None:
    url, _ = pooled

    async def ask() -> None:
        engine = make_engine(url, settings=KEY_LOOKUP_SETTINGS)
        try:
            await fetch(engine, text("SELECT 1"))
        finally:
            await engine.dispose()

    with pytest.raises(PooledLoginError) as refused:
        asyncio.run(ask())
    statements = str(refused.value).partition("(RECONNECT): ")[2]
    for statement in statements.split(";"):
        if statement:
            databases.execute(statement)


@pytest.fixture
def ready(pooled: tuple[str, str], databases: Databases) -> str:
    """The pooler's address, after what the error says was done."""
    url, _ = pooled
    wanted = {"timezone": "UTC", "jit": "off", "lock_timeout": "30s", "role": "pointsman_app", **KEY_LOOKUP_SETTINGS}
    for name, value in wanted.items():
        databases.execute(f"ALTER ROLE {LOGIN} SET {name} = '{value}'")
    return url


def test_statements_run_as_the_application_on_whatever_connection(ready: str) -> None:
    async def story() -> None:
        engines = [make_engine(ready, settings=KEY_LOOKUP_SETTINGS, pool_size=2) for _ in range(4)]
        seen = set()

        async def ask(n: int) -> None:
            # Often enough for the driver to prepare it, were it not told that it must not.
            (row,) = await execute_raw(engines[n % 4], WHO, {"n": n})
            assert (row.n, row.who) == (n, "pointsman_app")
            seen.add(row.pid)

        try:
            for _ in range(20):
                await asyncio.gather(*(ask(n) for n in range(8)))
        finally:
            for engine in engines:
                await engine.dispose()
        assert len(seen) == 2

    asyncio.run(story())


OPEN = "SELECT backend_xmin FROM pg_stat_activity WHERE state = 'idle in transaction' AND usename = %s"
WHO = text("SELECT CAST(:n AS integer) AS n, current_user AS who, pg_backend_pid() AS pid")


def test_one_feeder_leads_at_a_time(ready: str, databases: Databases) -> None:
    async def story() -> None:
        engine, other_engine = (make_engine(ready, settings=KEY_LOOKUP_SETTINGS) for _ in range(2))
        first, second = LeaderElection(engine), LeaderElection(other_engine)
        try:
            assert await first.try_acquire()
            with psycopg.connect(databases.url) as connection:
                # One open transaction, and it holds up no vacuum.
                assert connection.execute(OPEN, [LOGIN]).fetchall() == [(None,)]
            for _ in range(5):
                await fetch(engine, text("SELECT 1"))
                assert not await second.try_acquire()
                assert await first.try_acquire()
            await first.release()
            deadline = time.monotonic() + 30
            while not await second.try_acquire():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert not await first.try_acquire()
        finally:
            await second.release()
            await engine.dispose()
            await other_engine.dispose()

    asyncio.run(story())
