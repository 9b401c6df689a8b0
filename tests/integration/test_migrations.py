"""The schema that migrations make is the one that ``db/schema.py`` describes."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.pool import NullPool

from db import migrate
from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.schema import metadata
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


def of_ours(item: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    """Partitions are children of tables that are compared themselves."""
    return not (reflected and kind == "table" and name and name.startswith(("calls_", "decisions_")))


def test_migrations_and_tables_agree(database_url: str) -> None:
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_object": of_ours, "compare_type": True, "compare_server_default": True},
        )
        assert compare_metadata(context, metadata) == []


def test_a_migrated_database_is_at_the_newest_revision_and_can_go_back(database_url: str) -> None:
    from alembic import command

    assert migrate.current(database_url) == migrate.newest()
    command.downgrade(migrate._config(database_url), "base")
    assert migrate.current(database_url) is None
    migrate.upgrade(database_url)
    assert migrate.current(database_url) == migrate.newest()


IMPOSSIBLE = {
    "an unknown state": "INSERT INTO queries (id, batch_id, stage, state) VALUES (1, 1, 'route', 'lost')",
    "done without an end": "INSERT INTO queries (id, batch_id, stage, state) VALUES (1, 1, 'route', 'done')",
    "open with an end": (
        "INSERT INTO queries (id, batch_id, stage, state, finished_at) VALUES (1, 1, 'route', 'ready', now())"
    ),
    "running without a lease": "INSERT INTO queries (id, batch_id, stage, state) VALUES (1, 1, 'route', 'running')",
    "a call with an outcome and no cost": (
        "INSERT INTO calls (id, batch_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,"
        " price_version, outcome, finished_at) VALUES (1, 1, 1, 'answer', 's', 'd', 'p', 'm', 0, 'v', 'ok', now())"
    ),
    "an empty batch": (
        "INSERT INTO batches (handle, source, total, first_query_id, last_query_id, fleet, fleet_digest, simulated)"
        " VALUES ('batch_1', 'x', 0, 1, 1, 'f', 'd', true)"
    ),
}


@pytest.mark.parametrize("statement", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible_rows_are_impossible(database_url: str, statement: str) -> None:
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection, pytest.raises(IntegrityError):
        connection.execute(text(statement))


@pytest.mark.parametrize("statement", ["UPDATE decisions SET kind = 'x'", "DELETE FROM decisions"])
def test_the_application_cannot_change_a_decision(database_url: str, statement: str) -> None:
    engine = create_engine(database_url, poolclass=NullPool, connect_args={"options": "-c role=pointsman_app"})
    with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        connection.execute(text(statement))


def test_the_auditor_reads_views_and_no_prompt(database_url: str) -> None:
    engine = create_engine(database_url, poolclass=NullPool, connect_args={"options": "-c role=pointsman_auditor"})
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM routing_log")).scalar_one() == 0
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text("SELECT body FROM prompts"))


def test_a_batch_that_is_submitted_keeps_no_migration_waiting(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with open_batch_writer(
            bench.engine, BatchSpec(source="test", idempotency_key="a"), bench.fleet
        ) as opened:
            assert isinstance(opened, BatchWriter)
            await opened.write([(1, "q", b"{}", None)])
            async with bench.owner() as owner, owner.connect() as connection:
                await connection.execute(text("SET lock_timeout = '1s'"))
                await connection.execute(text("ALTER TABLE batches ADD COLUMN another text"))
        assert len(await bench.rows("SELECT 1 FROM batches")) == 1

    on_bench(story)


def test_a_migration_that_a_backup_keeps_waiting_holds_up_nobody_else(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from alembic import command

    command.downgrade(migrate._config(database_url), "0011")
    engine = create_engine(database_url, poolclass=NullPool)
    with ThreadPoolExecutor() as threads, engine.connect() as other:
        with engine.connect() as backup:
            backup.execute(text("LOCK TABLE batches IN ACCESS SHARE MODE"))
            migrating = threads.submit(migrate.upgrade, database_url)
            asked, deadline = (
                text("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"),
                time.time() + 120,
            )
            while not other.execute(asked).all():
                assert time.time() < deadline
                time.sleep(0.01)
            other.execute(text("SET lock_timeout = '5s'"))
            assert other.execute(text("SELECT count(*) FROM batches")).scalar_one() == 0
            other.rollback()
            assert not migrating.done()
        migrating.result(timeout=120)
    assert "trying again" in capfd.readouterr().err
    assert migrate.current(database_url) == migrate.newest()
