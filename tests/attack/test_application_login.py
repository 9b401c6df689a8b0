"""A login that is a member of ``pointsman_app`` alone: it becomes nobody else, and can change or hide no evidence."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError

from db import migrate
from db.audit_seals import ADDED, seal_ended, verify
from tests.databases import Databases
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_audit_seals import ended_batch, unsealed_batch

PAYLOAD = """BEGIN
    IF current_user <> session_user THEN
        EXECUTE 'GRANT UPDATE, DELETE, TRUNCATE ON public.decisions, public.seals TO pointsman_app';
    END IF;
    RETURN {result};
END"""

DEFINERS = (
    "SELECT public.pointsman_add_partitions(3)",
    "SELECT public.pointsman_seal(1, 20000)",
    "SELECT public.pointsman_delete_orphans(1)",
)


ENDED_BATCH = """
WITH batch AS (
    INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest,
                         price_list, simulated, ended_at)
    VALUES (1, 'batch_1', 'test', 1, 1, 1, '', '', '', true, now()))
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons)
VALUES (1, 1, 1, 'route', 'advance', 'route', 'small', 'ready', '{}')
"""


@pytest.fixture
def clerk(databases: Databases) -> Iterator[str]:
    """A login of the server that is a member of ``pointsman_app`` and of nothing else."""
    name = f"clerk_{os.getpid()}"
    databases.execute("CREATE ROLE {} LOGIN IN ROLE pointsman_app", name)
    yield name
    databases.execute("DROP ROLE {}", name)


@pytest.fixture
def migrated(databases: Databases) -> Iterator[str]:
    """The name of a database that was migrated as users do it: a copy of another would have other rights."""
    name = f"attacked_{os.getpid()}"
    databases.execute("CREATE DATABASE {}", name)
    migrate.upgrade(databases.of(name))
    yield name
    databases.drop(name)


def connect(databases: Databases, database: str, *, user: str | None = None) -> psycopg.Connection:
    url = databases.of(database).replace("postgresql+psycopg://", "postgresql://")
    return psycopg.connect(url, autocommit=True, **({"user": user} if user else {}))


def domain(schema: str, name: str, of: str) -> tuple[str, ...]:
    return (
        f"CREATE FUNCTION {schema}.evil(v pg_catalog.{of}) RETURNS pg_catalog.bool LANGUAGE plpgsql AS"
        f" $$ {PAYLOAD.format(result='true')} $$",
        f"CREATE DOMAIN {schema}.{name} AS pg_catalog.{of} CHECK ({schema}.evil(VALUE))",
    )


def function(schema: str, signature: str, returns: str, result: str) -> tuple[str, ...]:
    return (
        f"CREATE FUNCTION {schema}.{signature} RETURNS {returns} LANGUAGE plpgsql AS"
        f" $$ {PAYLOAD.format(result=result)} $$",
    )


def operator(schema: str, name: str, left: str, right: str, returns: str, result: str) -> tuple[str, ...]:
    return (
        f"CREATE FUNCTION {schema}.evil_operator(pg_catalog.{left}, pg_catalog.{right}) RETURNS pg_catalog.{returns}"
        f" LANGUAGE plpgsql AS $$ {PAYLOAD.format(result=result)} $$",
        f"CREATE OPERATOR {schema}.{name} (FUNCTION = {schema}.evil_operator, LEFTARG = pg_catalog.{left},"
        f" RIGHTARG = pg_catalog.{right})",
    )


def cast(schema: str) -> tuple[str, ...]:
    """A type of the attacker's, and an assignment cast to it that runs the payload."""
    return (
        f"CREATE TYPE {schema}.text AS (v pg_catalog.text)",
        f"CREATE FUNCTION {schema}.evil_cast(v pg_catalog.text) RETURNS {schema}.text LANGUAGE plpgsql AS"
        f" $$ {PAYLOAD.format(result=f'ROW(v)::{schema}.text')} $$",
        f"CREATE CAST (pg_catalog.text AS {schema}.text) WITH FUNCTION {schema}.evil_cast(pg_catalog.text)"
        " AS ASSIGNMENT",
    )


ESCALATIONS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "a domain text": lambda schema: domain(schema, "text", "text"),
    "a domain timestamptz": lambda schema: domain(schema, "timestamptz", "timestamptz"),
    "a domain int8": lambda schema: domain(schema, "int8", "int8"),
    "a domain bytea": lambda schema: domain(schema, "bytea", "bytea"),
    "a domain bool": lambda schema: domain(schema, "bool", "bool"),
    "a cast to a type text": cast,
    "a function date_trunc": lambda schema: function(
        schema,
        "date_trunc(pg_catalog.text, pg_catalog.timestamptz)",
        "pg_catalog.timestamptz",
        "pg_catalog.now()",
    ),
    "a function format": lambda schema: function(
        schema, "format(pg_catalog.text, VARIADIC pg_catalog.text[])", "pg_catalog.text", "'SELECT true'"
    ),
    "a function sha256": lambda schema: function(schema, "sha256(pg_catalog.bytea)", "pg_catalog.bytea", r"'\x00'"),
    "an operator ||": lambda schema: operator(schema, "||", "text", "text", "text", "'x'"),
    "an operator <=": lambda schema: operator(schema, "<=", "int8", "int8", "bool", "true"),
}


@pytest.mark.parametrize("schema", ["pg_temp", "of_the_clerk"])
@pytest.mark.parametrize("objects", ESCALATIONS.values(), ids=ESCALATIONS.keys())
def test_no_object_of_the_caller_runs_as_the_owner(
    databases: Databases, database_url: str, clerk: str, objects: Callable[[str], tuple[str, ...]], schema: str
) -> None:
    database = str(make_url(database_url).database)
    with connect(databases, database) as owner, connect(databases, database, user=clerk) as attacker:
        # As where the database lets everybody have temporary objects, and gave the login a schema of its own.
        owner.execute(f"GRANT TEMPORARY ON DATABASE {database} TO {clerk}")
        owner.execute(f"CREATE SCHEMA of_the_clerk AUTHORIZATION {clerk}")
        owner.execute(ENDED_BATCH)
        attacker.execute(f"SET search_path = {schema}, pg_catalog, public")
        try:
            for statement in objects(schema):
                with suppress(psycopg.errors.InsufficientPrivilege):
                    attacker.execute(statement)
            assert [attacker.execute(call).fetchone() for call in DEFINERS] == [(2,), (1,), (0,)]
            gained = owner.execute(
                "SELECT privilege_type FROM information_schema.role_table_grants WHERE grantee = 'pointsman_app'"
                " AND table_name IN ('decisions', 'seals') AND privilege_type <> 'SELECT'"
            )
            assert gained.fetchall() == []
        finally:
            owner.execute(f"DROP OWNED BY {clerk} CASCADE")


def test_a_login_of_the_application_makes_no_object_at_all(databases: Databases, migrated: str, clerk: str) -> None:
    with connect(databases, migrated, user=clerk) as attacker:
        for statement in (
            "CREATE TEMPORARY TABLE x ()",
            "CREATE DOMAIN pg_temp.text AS pg_catalog.text",
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TABLE public.x ()",
            "CREATE SCHEMA x",
            "SELECT lo_create(0)",
            r"SELECT lo_from_bytea(0, '\x00')",
            "SELECT pg_logical_emit_message(false, 'x', 'x')",
            "SET ROLE pointsman_owner",
            "SET SESSION AUTHORIZATION pointsman_owner",
            "COPY (SELECT 1) TO PROGRAM 'id'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                attacker.execute(statement)


@pytest.mark.parametrize("ahead", ["-1", "25", "100000", "2147483647", "NULL"])
def test_the_months_that_are_made_ahead_are_bounded(
    databases: Databases, database_url: str, clerk: str, ahead: str
) -> None:
    database = str(make_url(database_url).database)
    with connect(databases, database, user=clerk) as attacker, pytest.raises(psycopg.errors.InvalidParameterValue):
        attacker.execute(f"SELECT public.pointsman_add_partitions({ahead})")


def test_the_owner_of_everything_is_no_superuser(databases: Databases, migrated: str) -> None:
    with connect(databases, migrated) as owner:
        owners = owner.execute(
            "SELECT DISTINCT r.rolname, r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolbypassrls"
            " FROM (SELECT relowner AS id FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            "       UNION ALL SELECT proowner FROM pg_proc WHERE pronamespace = 'public'::regnamespace) AS o"
            " JOIN pg_roles AS r ON r.oid = o.id"
        )
        assert owners.fetchall() == [("pointsman_owner", False)]


def test_every_function_with_the_owners_rights_looks_into_pg_temp_last_and_is_the_applications_alone(
    databases: Databases, migrated: str
) -> None:
    with connect(databases, migrated) as owner:
        found = owner.execute(
            "SELECT proname, proconfig, has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc WHERE prosecdef"
        ).fetchall()
    assert {name for name, _, _ in found} == {
        "pointsman_add_partitions", "pointsman_delete_orphans", "pointsman_seal"
    }  # fmt: skip
    for name, config, is_public in found:
        assert "search_path=pg_catalog, pg_temp" in config, name
        assert not is_public, name


REFUSED = {
    "a changed decision": "UPDATE decisions SET reasons = ARRAY['forged']",
    "a decision taken away": "DELETE FROM decisions",
    "all decisions taken away": "TRUNCATE decisions",
    "a decision with a time of its own": (
        "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons, at)"
        " SELECT batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons, at FROM decisions"
    ),
    "a decision with an id of its own": (
        "INSERT INTO decisions (id, batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons)"
        " SELECT -id, batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, reasons FROM decisions"
    ),
    "ids from the beginning": "SELECT setval('decisions_id_seq', 1)",
    "a partition of decisions": "DELETE FROM decisions_other",
    "a month of calls": "UPDATE calls_other SET cost_usd = 0",
    "a seal of its own": "INSERT INTO seals (batch_id, place, ids, row_hashes, hash) VALUES (1, 2, '{}', '', '')",
    "a changed seal": "UPDATE seals SET hash = ''",
    "a seal taken away": "DELETE FROM seals",
    "an unsealed batch": "UPDATE batches SET sealed_at = NULL",
    "a sealed batch": "UPDATE batches SET sealed_at = now()",
    "a batch taken away": "DELETE FROM batches",
    "another public id": "UPDATE batches SET public_id = 'batch_other'",
    "another tenant": "UPDATE batches SET tenant = 'other'",
    "another key": "UPDATE batches SET key_id = 'other'",
    "another source": "UPDATE batches SET source = 'other'",
    "a real batch that is called simulated": "UPDATE batches SET simulated = true",
    "other ids of its queries": "UPDATE batches SET first_query_id = 0",
    "purged texts that are not": "UPDATE batches SET purged_at = now()",
    "other prices": "UPDATE batches SET price_list = ''",
    "a changed price list": "UPDATE price_lists SET content = '{}'",
    "a price list taken away": "DELETE FROM price_lists",
    "another time of its submission": "UPDATE batches SET created_at = now()",
    "another custom_id": "UPDATE prompts SET custom_id = 'other-' || custom_id",
    "another prompt": "UPDATE prompts SET body = '{}'",
    "a prompt taken away": "DELETE FROM prompts",
    "another answer": "UPDATE answers SET response = '{}'",
    "an answer taken away": "DELETE FROM answers",
    "a query taken away": "DELETE FROM queries",
    "a query of another batch": "UPDATE queries SET batch_id = 0",
    "a call taken away": "DELETE FROM calls",
    "a call with another model": "UPDATE calls SET model = 'nothing-to-see'",
    "a call of another batch": "UPDATE calls SET batch_id = 0",
    "a call of another query": "UPDATE calls SET query_id = 0",
    "a call of another time": "UPDATE calls SET created_at = now()",
    "a call with another reservation": "UPDATE calls SET reserved_usd = 0",
    "a call that begins with its cost": (
        "INSERT INTO calls (id, batch_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,"
        " price_version, outcome, cost_usd, finished_at)"
        " VALUES (-1, 1, 1, 'answer', 's', 'd', 'p', 'm', 0, 'v', 'ok', 0, now())"
    ),
    "sums of purged calls": "UPDATE kept_calls SET cost_usd = 0",
    "no row policy": "ALTER TABLE calls DISABLE ROW LEVEL SECURITY",
    "a label taken away": "DELETE FROM labels",
    "a label with a time of its own": (
        "INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by, at)"
        " VALUES (1, 1, 's', 1, 'command', 'x', now())"
    ),
    "another quality floor": "UPDATE pilots SET floor = 0",
    "a key's tenant": "UPDATE api_keys SET tenant = 'other'",
    "a key taken away": "DELETE FROM api_keys",
    "a batch of the API in another tenant": "UPDATE api_batches SET tenant = 'other'",
    "a batch of the API taken away": "DELETE FROM api_batches",
    "a router's files": "UPDATE router_files SET content = ''",
    "a promotion that was none": "DELETE FROM router_promotions",
    "a trigger": "CREATE TRIGGER t BEFORE INSERT ON decisions EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "a rule": "CREATE RULE r AS ON INSERT TO decisions DO INSTEAD NOTHING",
    "a view": "CREATE OR REPLACE VIEW routing_log AS SELECT 1",
}


def test_what_the_log_the_costs_and_the_ids_rest_on_is_not_the_applications_to_change(
    databases: Databases, migrated: str, clerk: str
) -> None:
    done = []
    with connect(databases, migrated, user=clerk) as attacker:
        for name, statement in REFUSED.items():
            try:
                attacker.execute(statement)  # type: ignore[arg-type]  # ours
            except psycopg.errors.InsufficientPrivilege:
                continue
            done.append(name)
    assert done == []


def test_a_result_and_its_cost_are_written_once(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        results = "SELECT outcome, cost_usd, prompt_tokens FROM calls ORDER BY id"
        before = await bench.rows(results)
        assert [row.outcome for row in before] == ["ok", "ok", "ok"]
        await bench.rows("UPDATE calls SET cost_usd = 0, prompt_tokens = 0 WHERE batch_id = :b", b=batch_id)
        await bench.rows("UPDATE calls SET outcome = 'unknown' WHERE batch_id = :b", b=batch_id)
        assert await bench.rows(results) == before

    on_bench(story)


DECIDED_PILOT = (
    "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, certificate, policy, decided_at)"
    " VALUES (1, 0.9, 0.95, 1, 0, 'decided', '{}', '{}', now())"
)


@pytest.mark.parametrize(
    "change",
    ["certificate = '{\"forged\": 1}'", "policy = NULL", "weights = ''", "decided_at = now()", "extensions = 0",
     "state = 'sampling', decided_at = NULL"],
)  # fmt: skip
def test_what_a_pilot_decided_is_written_once(databases: Databases, database_url: str, clerk: str, change: str) -> None:
    with connect(databases, str(make_url(database_url).database), user=clerk) as attacker:
        attacker.execute(DECIDED_PILOT.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is decided"):
            attacker.execute(f"UPDATE pilots SET {change}".encode())
        attacker.execute("UPDATE pilots SET breached_at = now(), stopped_at = now()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is decided"):
            attacker.execute("UPDATE pilots SET breached_at = NULL")


def test_a_certificate_that_no_pilot_gave_is_named(on_bench: OnBench) -> None:
    """The application's login may write one, and the report shows it; the log of decisions does not have it."""

    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        await bench.rows(DECIDED_PILOT.replace("(1,", f"({batch_id},"))
        findings = (await verify(bench.engine, batch_id)).findings
        assert [finding.what for finding in findings] == ["the certificate is in no decision"]

    on_bench(story)


FORGED = (
    "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, reasons)"
    " SELECT batch_id, query_id, epoch, 'judge', 'finish', 'small', 'small', 'done', 'judge',"
    " ARRAY['FORGED: approved by the board'] FROM decisions WHERE batch_id = :b ORDER BY id LIMIT 1"
)


async def _nothing(bench: LedgerHarness, batch_id: int) -> None:
    pass


async def _seal_again(bench: LedgerHarness, batch_id: int) -> None:
    await bench.rows("SELECT pointsman_seal(:b, 20000)", b=batch_id)
    await seal_ended(bench.engine)


async def _end_again(bench: LedgerHarness, batch_id: int) -> None:
    await bench.rows("UPDATE batches SET ended_at = now() WHERE id = :b", b=batch_id)
    await _seal_again(bench, batch_id)


async def _open_again(bench: LedgerHarness, batch_id: int) -> None:
    await bench.rows("UPDATE batches SET ended_at = NULL WHERE id = :b", b=batch_id)


async def _open_and_end_again(bench: LedgerHarness, batch_id: int) -> None:
    await _open_again(bench, batch_id)
    await bench.ledger.end_batches()
    await _seal_again(bench, batch_id)


@pytest.mark.parametrize("then", [_nothing, _seal_again, _end_again, _open_again, _open_and_end_again])
def test_a_decision_that_is_added_to_a_sealed_batch_is_named_whatever_is_done_next(
    on_bench: OnBench, then: Callable[[LedgerHarness, int], Awaitable[None]]
) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        await bench.rows(FORGED, b=batch_id)
        await then(bench, batch_id)
        findings = (await verify(bench.engine, batch_id)).findings
        assert [finding.what for finding in findings] == [ADDED]

    on_bench(story)


@pytest.mark.parametrize("then", [_nothing, _end_again, _open_again, _open_and_end_again])
def test_a_decision_of_a_transaction_that_is_older_than_the_seal_is_named(
    on_bench: OnBench, then: Callable[[LedgerHarness, int], Awaitable[None]]
) -> None:
    """Its time is that of its transaction: before the seal, and before the end of the batch."""

    async def story(bench: LedgerHarness) -> None:
        batch_id = await unsealed_batch(bench)
        async with bench.engine.connect() as held:
            old = await held.execution_options(isolation_level="READ COMMITTED")
            await old.begin()
            await old.execute(text("SELECT now()"))
            await seal_ended(bench.engine)
            await old.execute(text(FORGED), {"b": batch_id})
            await old.commit()
        await then(bench, batch_id)
        findings = (await verify(bench.engine, batch_id)).findings
        assert [finding.what for finding in findings] == [ADDED]

    on_bench(story)


def test_what_was_added_before_a_resume_is_named_and_what_follows_it_is_sealed(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        await bench.rows(FORGED, b=batch_id)
        await bench.rows("UPDATE queries SET state = 'failed' WHERE batch_id = :b", b=batch_id)
        assert await bench.ledger.resume(batch_id) == 3
        assert [each.what for each in (await verify(bench.engine, batch_id)).findings] == [ADDED]
        await bench.rows("UPDATE queries SET state = 'done', finished_at = now() WHERE batch_id = :b", b=batch_id)
        await bench.ledger.end_batches()
        assert await seal_ended(bench.engine) == 3
        audit = await verify(bench.engine, batch_id)
        assert [each.what for each in audit.findings] == ["was added among sealed ones"]
        assert (audit.decisions, audit.unsealed) == (6, 0)

    on_bench(story)


def test_nothing_of_an_open_batch_is_sealed(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await unsealed_batch(bench)
        await bench.rows("UPDATE batches SET ended_at = NULL WHERE id = :b", b=batch_id)
        assert (await bench.rows("SELECT pointsman_seal(:b, 20000) AS n", b=batch_id))[0].n is None
        audit = await verify(bench.engine, batch_id)
        assert (audit.seals, audit.unsealed) == (0, 3)

    on_bench(story)


@pytest.mark.parametrize("what", ["DELETE FROM batches", "DELETE FROM prompts", "DELETE FROM queries"])
def test_a_row_that_is_gone_elsewhere_hides_no_decision(on_bench: OnBench, what: str) -> None:
    async def story(bench: LedgerHarness) -> None:
        await ended_batch(bench)
        async with bench.owner() as owner, owner.connect() as connection:
            await connection.exec_driver_sql(what)
        assert len(await bench.rows("SELECT * FROM routing_log")) == 3
        assert len(await bench.rows("SELECT * FROM query_trace")) == 6

    on_bench(story)


def test_a_hidden_query_is_named(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        async with bench.owner() as owner, owner.connect() as connection:
            await connection.exec_driver_sql("DELETE FROM prompts WHERE line = 1")
        (finding,) = (await verify(bench.engine, batch_id)).findings
        assert finding.what.startswith("cannot name its query")

    on_bench(story)


TIMES = (
    "SELECT c.table_name AS name, c.column_name AS moment, array_agg(pg_get_expr(k.conbin, k.conrelid)) AS checks"
    " FROM information_schema.columns AS c"
    " LEFT JOIN pg_constraint AS k ON k.conrelid = CAST(quote_ident(c.table_name) AS regclass) AND k.contype = 'c'"
    " WHERE c.table_schema = 'public' AND c.data_type = 'timestamp with time zone'"
    " AND (has_column_privilege('pointsman_app', quote_ident(c.table_name), c.column_name, 'INSERT')"
    "   OR has_column_privilege('pointsman_app', quote_ident(c.table_name), c.column_name, 'UPDATE'))"
    " GROUP BY 1, 2"
)
"""The columns of times that the application writes, with the checks of their tables."""


def test_no_time_is_beyond_all_times(on_bench: OnBench) -> None:
    """What is never over is kept forever, and no client reads a time after the year 9999: one row hides all others."""

    async def story(bench: LedgerHarness) -> None:
        taken = []
        for table in await bench.rows_as_owner(TIMES):
            for moment in ("infinity", "-infinity", "294276-01-01"):
                checks = " AND ".join(f"({check}) IS NOT FALSE" for check in table.checks if check)
                row = f'jsonb_populate_record(NULL::public.{table.name}, \'{{"{table.moment}": "{moment}"}}\')'
                (is_taken,) = await bench.rows_as_owner(f"SELECT {checks or 'true'} FROM {row} AS {table.name}")
                if is_taken[0]:
                    taken.append((table.name, table.moment, moment))
        # A query that waits for the decision of its pilot is due at no time.
        assert taken == [("queries", "due_at", "infinity")]

    on_bench(story)


@pytest.mark.parametrize("end", ["infinity", "-infinity", "9000-01-01", "2001-01-01"])
def test_a_batch_ends_neither_in_the_future_nor_before_it_began(on_bench: OnBench, end: str) -> None:
    """No purge reaches the former, and the next purge takes the latter, however young it is."""

    async def story(bench: LedgerHarness) -> None:
        batch_id = await ended_batch(bench)
        with pytest.raises(IntegrityError, match="ck_batches_ended_at"):
            await bench.rows(f"UPDATE batches SET ended_at = '{end}'")
        await bench.rows_as_owner("ALTER TABLE batches DROP CONSTRAINT ck_batches_ended_at_known")
        await bench.rows_as_owner("ALTER TABLE batches DROP CONSTRAINT ck_batches_times_finite")
        await bench.rows(f"UPDATE batches SET ended_at = '{end}'")
        (finding,) = (await verify(bench.engine, batch_id)).findings
        assert finding.what.startswith("the batch's end is before its creation or in the future")

    on_bench(story)
