"""What a test leaves in its database does not reach the next."""

import asyncio
from typing import Any

import psycopg
import pytest

from routing.fleet import Fleet
from tests.databases import Databases, ReusedDatabases
from tests.integration.ledger_fixtures import opened

LEFT = (
    "SELECT (SELECT count(*) FROM queries) AS rows, (SELECT count(*) FROM alembic_version) AS versions,"
    " (SELECT count(*) FROM pg_sequences WHERE last_value IS NOT NULL) AS sequences,"
    " (SELECT count(*) FROM pg_stats WHERE schemaname = 'public') AS statistics"
)


def connect(databases: Databases, name: str) -> psycopg.Connection[Any]:
    return psycopg.connect(databases.of(name).replace("+psycopg", ""), autocommit=True)


def test_rows_sequences_statistics_and_connections_are_gone(
    databases: Databases, reused_databases: ReusedDatabases, shipped_fleet: Fleet
) -> None:
    name = reused_databases.take()

    async def fill() -> None:
        async with opened(databases.of(name), shipped_fleet) as bench:
            await bench.submit(100)

    asyncio.run(fill())
    with connect(databases, name) as connection:
        connection.execute("ANALYZE queries")
        ((rows, versions, sequences, statistics),) = connection.execute(LEFT)
        assert (rows, versions) == (100, 1)
        assert sequences
        assert statistics
        reused_databases.give_back(name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert reused_databases.take() == name
    with connect(databases, name) as connection:
        assert [*connection.execute(LEFT)] == [(0, 1, 0, 0)]
    reused_databases.give_back(name)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE batches ALTER source SET DEFAULT 'test'",
        "CREATE TABLE another (id int)",
        "DROP VIEW query_trace",
        "GRANT DELETE ON decisions TO pointsman_app",
        "GRANT UPDATE (source) ON batches TO pointsman_app",
        "GRANT CREATE ON SCHEMA public TO pointsman_app",
        "ALTER TABLE queries SET (fillfactor = 50)",
        "ALTER TABLE pilots DISABLE TRIGGER keep_certificate",
        "ALTER SEQUENCE call_blocks INCREMENT 2",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pointsman_app",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = on', current_database()); END $$",
        "UPDATE alembic_version SET version_num = 'another'",
    ],
)
def test_a_database_of_another_schema_is_not_used_again(
    databases: Databases, reused_databases: ReusedDatabases, statement: str
) -> None:
    name = reused_databases.take()
    with connect(databases, name) as connection:
        connection.execute(statement)
    reused_databases.give_back(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(databases, name)
