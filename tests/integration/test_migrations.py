"""The schema that the migrations make: documented, reversible, and with rules that hold."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.pool import NullPool

from cli.check_result import CheckStatus
from cli.commands.doctor import _postgres
from db import migrate
from db.batch_writer import BatchSpec, BatchWriter, open_batch_writer
from db.migration_errors import NotOurRole, NotOurSchema, NotOurTables
from routing.lifecycle import TERMINAL, State
from settings import ROOT, Settings
from tests.databases import Databases
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.schema_page import schema_page


def test_the_page_of_the_schema_is_what_the_migrations_make(database_url: str) -> None:
    page = ROOT / "docs" / "schema.md"
    with create_engine(database_url, poolclass=NullPool).connect() as connection:
        made = schema_page(connection)
    if os.environ.get("UPDATE_SCHEMA_PAGE"):
        page.write_text(made)
    assert page.read_text() == made


def test_a_database_before_the_first_start_is_no_fault_to_the_doctor(databases: Databases) -> None:
    name = f"empty_{os.getpid()}"
    databases.execute("CREATE DATABASE {}", name)
    try:
        checks = list(_postgres(Settings.load({"DATABASE_URL": databases.of(name)})))
    finally:
        databases.drop(name)
    (migration,) = [check for check in checks if check.thing == "migration"]
    assert migration.health is CheckStatus.OK
    assert migration.found.startswith("no schema yet: the first")


@pytest.mark.parametrize("user", ["postgres", "pointsman_owner"])
def test_tables_of_another_role_are_named_with_the_fix(databases: Databases, user: str) -> None:
    name = f"older_{os.getpid()}"
    databases.execute("CREATE DATABASE {}", name)
    try:
        migrate.upgrade(databases.of(name))
        with create_engine(databases.of(name), poolclass=NullPool).begin() as connection:
            connection.execute(text("ALTER TABLE alembic_version OWNER TO postgres"))
            connection.execute(text("ALTER ROLE pointsman_owner LOGIN"))
        with pytest.raises(NotOurTables, match="belong to postgres"):
            migrate.upgrade(databases.of(name).replace("postgres@", f"{user}@"))
        assert "start again" in NotOurTables.hint
    finally:
        databases.drop(name)


def test_tables_of_another_version_are_named_with_the_fix(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.upgrade(database_url)
    with monkeypatch.context() as edited:
        edited.setattr("db.migrate.baseline_digest", lambda: "of another state of the baseline")
        with pytest.raises(NotOurSchema, match="another development version"):
            migrate.upgrade(database_url)
    migrate.upgrade(database_url)


def test_a_role_of_another_installation_is_named_with_the_fix(databases: Databases, database_url: str) -> None:
    databases.execute("CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(NotOurRole, match=r"pointsman_app exists .* login stranger is not a member"):
            migrate.upgrade(database_url.replace("postgres@", "stranger@"))
    finally:
        databases.execute("DROP ROLE stranger")


def listed(definition: str) -> set[str]:
    return set(re.findall(r"'(\w+)'", definition))


def test_the_constraints_of_queries_know_the_states_of_the_lifecycle(database_url: str) -> None:
    asked = text(
        "SELECT conname, pg_get_constraintdef(oid) AS definition"
        " FROM pg_constraint WHERE conrelid = 'queries'::regclass"
    )
    with create_engine(database_url, poolclass=NullPool).connect() as connection:
        definitions = {row.conname: row.definition for row in connection.execute(asked)}
        unanswered = connection.execute(text("SELECT pg_get_indexdef('ix_queries_unanswered'::regclass)")).scalar_one()
    assert listed(definitions["ck_queries_state_known"]) == {state.value for state in State}
    assert listed(definitions["ck_queries_finished_is_terminal"]) == {state.value for state in TERMINAL}
    assert listed(unanswered) == {state.value for state in TERMINAL - {State.DONE}}


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
        "INSERT INTO batches (public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest,"
        " price_list, simulated) VALUES ('batch_1', 'x', 0, 1, 1, 'f', 'd', 'p', true)"
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


NEXT = """
from alembic import op

revision = "0002_test"
down_revision = "{head}"


def upgrade() -> None:
    op.execute("ALTER TABLE batches ADD COLUMN another text")
"""


def test_a_migration_that_a_backup_keeps_waiting_holds_up_no_other_statement(
    database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from alembic import command

    (tmp_path / "0002_test.py").write_text(NEXT.format(head=migrate.newest()))
    config = migrate._config(database_url)
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", os.pathsep.join([f"{ROOT}/migrations/versions", str(tmp_path)]))
    engine = create_engine(database_url, poolclass=NullPool)
    with ThreadPoolExecutor() as threads, engine.connect() as other:
        with engine.connect() as backup:
            backup.execute(text("LOCK TABLE batches IN ACCESS SHARE MODE"))
            migrating = threads.submit(command.upgrade, config, "head")
            waiting = text("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'")
            deadline = time.time() + 120
            while not other.execute(waiting).all():
                assert time.time() < deadline
                time.sleep(0.01)
            other.execute(text("SET lock_timeout = '5s'"))
            assert other.execute(text("SELECT count(*) FROM batches")).scalar_one() == 0
            other.rollback()
            assert not migrating.done()
        migrating.result(timeout=120)
        assert other.execute(text("SELECT count(another) FROM batches")).scalar_one() == 0
    assert "trying again" in capfd.readouterr().err
    assert migrate.current(database_url) == "0002_test"
