"""An auditor's login: it reads the views, changes nothing and takes no lock that others wait for."""

import asyncio
import os
from collections.abc import Iterator

import psycopg
import pytest

from db import migrate
from db.auditor_login import CONNECTIONS, DISK_LIMITS, add_auditor
from db.engine import make_engine
from tests.databases import Databases


@pytest.fixture(scope="module")
def jane(databases: Databases) -> Iterator[str]:
    """The address of a migrated database, as an auditor."""
    database, name = f"audited_{os.getpid()}", f"jane_{os.getpid()}"
    databases.execute("CREATE DATABASE {}", database)
    migrate.upgrade(databases.of(database))

    async def add() -> None:
        engine = make_engine(databases.of(database), role=None)
        await add_auditor(engine, name)
        await engine.dispose()

    asyncio.run(add())
    yield databases.of(database).replace("postgresql+psycopg://", "postgresql://").replace("postgres@", f"{name}@")
    databases.drop(database)
    databases.execute("DROP ROLE {}", name)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT body FROM prompts",
        "SELECT response FROM answers",
        "SELECT response FROM calls",
        "SELECT hash FROM api_keys",
        "SELECT secret FROM webhooks",
        "SELECT data FROM file_pieces",
        "SELECT content FROM router_files",
        "INSERT INTO decisions DEFAULT VALUES",
        "CREATE TEMPORARY TABLE x ()",
        "CREATE TABLE public.x ()",
        "SET ROLE pointsman_app",
        "SET ROLE pointsman_owner",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT pointsman_add_partitions(1)",
        "SELECT pointsman_seal(1, 1)",
        "SELECT pointsman_delete_orphans(1)",
        "SELECT pg_advisory_lock(727101)",
        "SELECT pg_advisory_xact_lock(727100)",
        "SELECT pg_try_advisory_lock(727101)",
        "SELECT pg_try_advisory_xact_lock(1349478766, 1)",
        "SELECT pg_advisory_lock_shared(727101)",
        "SELECT pg_try_advisory_xact_lock_shared(1, 1)",
        "SELECT pg_advisory_unlock_all()",
        "SET temp_file_limit = -1",
        "SET log_min_messages = 'log'",
        "ALTER ROLE CURRENT_USER RESET temp_file_limit",
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        r"SELECT lo_from_bytea(0, '\x00')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lowrite(0, '')",
        "SELECT pg_logical_emit_message(false, 'x', 'x')",
        "BEGIN; LOCK TABLE decisions",
        "BEGIN; LOCK TABLE decisions IN ACCESS SHARE MODE",
    ],
)
def test_it_is_refused_with_its_limits_lifted(jane: str, statement: str) -> None:
    with psycopg.connect(jane, autocommit=True) as session:
        for default in ("statement_timeout = 0", "lock_timeout = 0", "default_transaction_read_only = off"):
            session.execute(f"SET {default}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(statement.encode())


def test_its_defaults_and_its_limit(jane: str) -> None:
    sessions = [psycopg.connect(jane, autocommit=True) for _ in range(CONNECTIONS)]
    try:
        settings = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", *DISK_LIMITS)
        found = [sessions[0].execute(f"SHOW {name}".encode()).fetchone() for name in settings]
        assert found == [("30s",), ("5s",), ("1min",), *((value,) for value in DISK_LIMITS.values())]
        assert sessions[0].execute("SELECT count(*) FROM routing_log").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            psycopg.connect(jane)
    finally:
        for session in sessions:
            session.close()


def test_its_messages_fill_no_disk_and_wake_nothing(jane: str) -> None:
    """Eight gigabytes of them, kept for a session that listens and never reads. No session of ours listens."""
    if os.environ.get("POINTSMAN_TEST_DATABASE_URL"):
        pytest.skip("a Postgres of one's own has a limit of its own")
    with psycopg.connect(jane) as idle, psycopg.connect(jane, autocommit=True) as session:
        idle.execute("LISTEN anything")
        idle.commit()
        idle.execute("SELECT 1")  # its transaction stays open: what comes is kept for it
        flood = "SELECT pg_notify('anything', repeat('x', 7900) || n) FROM generate_series(1, 2000) AS n"
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="NOTIFY"):
            session.execute(flood)
