"""Rows from a user's Postgres, and results into it."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from typing import Any

import jinja2
import psycopg
import pytest
from sqlalchemy import make_url

from cli.command_errors import CommandError, ExitCode
from db.user_tables import RESULT_TYPES, UserDatabaseError, copy_query, copy_results, prepare_table
from settings import ROOT
from tests.integration.ledger_fixtures import LedgerHarness, OnBench


@pytest.fixture
def url(database_url: str) -> str:
    return make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def tickets(url: str) -> str:
    with psycopg.connect(url) as database:
        database.execute('CREATE TABLE "My tickets" (id int, body text, at timestamptz, amount numeric)')
        database.execute("""INSERT INTO "My tickets" VALUES (1, 'a "b",\nc', '2024-02-29 01:02:03+00', 1.10)""")
        database.execute("""INSERT INTO "My tickets" VALUES (2, NULL, NULL, NULL), (3, 'é', NULL, -1)""")
    return '"My tickets"'


def fetched(url: str, query: str, max_bytes: int = 10**6) -> list[dict[str, str]]:
    file = io.BytesIO()
    copy_query(url, query, file, max_bytes=max_bytes)
    return list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline=""), strict=True))


def test_the_rows_of_a_query_come_as_csv(url: str, tickets: str) -> None:
    query = f"SELECT id, body, amount FROM {tickets} WHERE '%s {{}}' LIKE '\\%%' ORDER BY id"
    assert fetched(url, f"{query} ; \n") == fetched(url, f"{query} -- all of them")
    rows = fetched(url, query)
    assert rows == [
        {"id": "1", "body": 'a "b",\nc', "amount": "1.10"},
        {"id": "2", "body": "", "amount": ""},
        {"id": "3", "body": "é", "amount": "-1"},
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nothing FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELEC 1", "syntax error"),
        ("SELECT 1) TO STDOUT; DROP TABLE x; --", "syntax error"),
        ("SELECT 1/0", "SQLSTATE 22012"),
    ],
)
def test_a_query_that_fails_says_why(url: str, query: str, message: str) -> None:
    with pytest.raises(UserDatabaseError, match=message):
        fetched(url, query)


def test_a_query_changes_nothing_and_is_bounded(url: str, tickets: str) -> None:
    with pytest.raises(UserDatabaseError, match="read-only"):
        fetched(url, f"DELETE FROM {tickets} RETURNING id")
    with pytest.raises(UserDatabaseError, match="more than 100 bytes"):
        fetched(url, "SELECT generate_series(1, 1000)", max_bytes=100)


@pytest.mark.parametrize("wrong", ["postgresql://user:secret@127.0.0.1:1/x", "not a url with secret"])
def test_an_address_that_is_wrong_is_not_shown(wrong: str) -> None:
    with pytest.raises(UserDatabaseError) as caught:
        fetched(wrong, "SELECT 1")
    assert "secret" not in str(caught.value)


def row(custom_id: str, answer: str | None) -> list[object]:
    return ["batch_1", custom_id, "done", answer, "small", "m", 0.5, 1.5e-06, 0, None]


async def rows_of(*rows: list[object]) -> AsyncIterator[list[object]]:
    for each in rows:
        yield each


@pytest.mark.parametrize("name", ["results", "public.results", 'we"ird; DROP TABLE x'])
def test_results_replace_those_of_their_batch_only(url: str, name: str) -> None:
    prepare_table(url, name)
    prepare_table(url, name)
    assert asyncio.run(copy_results(url, name, "batch_1", rows_of(row("a", "old"), row("b", "old")))) == 2
    assert asyncio.run(copy_results(url, name, "batch_0", rows_of(["batch_0", *row("a", "kept")[1:]]))) == 1
    assert asyncio.run(copy_results(url, name, "batch_1", rows_of(row("a", 'tab\t\\ "é"\n'), row("c", None)))) == 2
    with psycopg.connect(url) as database:
        table = psycopg.sql.Identifier(*name.split(".", 1))
        query = psycopg.sql.SQL("SELECT batch_id, custom_id, answer, cost_usd::float8 FROM {} ORDER BY 1, 2")
        found = database.execute(query.format(table)).fetchall()
    assert found == [
        ("batch_0", "a", "kept", 1.5e-06),
        ("batch_1", "a", 'tab\t\\ "é"\n', 1.5e-06),
        ("batch_1", "c", None, 1.5e-06),
    ]


def test_a_table_that_does_not_fit_is_refused_first(url: str, tickets: str) -> None:
    with pytest.raises(UserDatabaseError, match='column "batch_id" does not exist'):
        prepare_table(url, "My tickets")
    with pytest.raises(UserDatabaseError, match='schema "nowhere" does not exist'):
        prepare_table(url, "nowhere.results")


def test_the_command_reads_a_query_and_writes_a_table(
    command: Any, url: str, tickets: str, on_bench: OnBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", url)
    query = f"SELECT id, body FROM {tickets} WHERE body <> '' ORDER BY id"
    options = ("--query-sql", query, "--database-url-env", "MINE", "--column", "body", "--id", "id")
    assert command("submit", *options).stderr.splitlines()[0] == "2 queries accepted"
    bad = command("submit", "--query-sql", f"SELECT id, body FROM {tickets} ORDER BY id", *options[2:])
    assert str(bad.exception).startswith("row 2: column body: empty")
    assert command("run", *options, "--dry-run", "--into-table", "not_made").exception is None
    with psycopg.connect(url) as database:
        assert database.execute("SELECT to_regclass('not_made')").fetchone() == (None,)
    found: list[str] = []

    async def story(bench: LedgerHarness) -> None:
        await bench.answered()
        found.extend(row.public_id for row in await bench.rows("SELECT public_id FROM batches WHERE source <> 'sql'"))

    on_bench(story)
    written = command("results", found[0], "--into-table", "ticket_answers", "--database-url-env", "MINE")
    assert written.exception is None, repr(written.exception)
    assert written.stderr.splitlines() == ["1 query written to the table ticket_answers"]
    with psycopg.connect(url) as database:
        (stored,) = database.execute("SELECT * FROM ticket_answers").fetchall()
    assert dict(zip(RESULT_TYPES, stored, strict=True))["custom_id"] == "q-0"


def test_the_models_for_dbt_ask_for_what_has_no_answer_and_join_the_answers(url: str) -> None:
    page = (ROOT / "docs" / "tables.md").read_text()
    sql = jinja2.Environment(autoescape=False)  # as dbt has it
    to_label, labeled = (
        sql.from_string(block).render(ref=lambda name: name, source=lambda schema, name: name)
        for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    )
    prepare_table(url, "ticket_labels")
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE tickets (id int, subject text, body text)")
        database.execute("INSERT INTO tickets VALUES (1, 'a', 'A'), (2, 'b', 'B'), (3, 'c', 'C')")
    failed = ["batch_1", "2", "failed", None, None, None, None, 0, 0, "query_failed: no tier could"]
    asyncio.run(copy_results(url, "ticket_labels", "batch_1", rows_of(row("1", "bug"), failed)))
    assert [each["id"] for each in fetched(url, f"SELECT * FROM ({to_label}) AS m ORDER BY id")] == ["2", "3"]
    asyncio.run(copy_results(url, "ticket_labels", "batch_2", rows_of(["batch_2", *row("2", "billing")[1:]])))
    rows = fetched(url, f"SELECT * FROM ({labeled}) AS m ORDER BY id")
    assert [(each["id"], each["label"]) for each in rows] == [("1", "bug"), ("2", "billing"), ("3", "")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("submit",), "Give a FILE, or --query-sql"),
        (("submit", "q.txt", "--query-sql", "SELECT 1"), "Give a FILE, or --query-sql"),
        (("submit", "--query-sql", "SELECT 1"), "needs --database-url-env"),
        (("submit", "--query-sql", "SELECT 1", "--database-url-env", "ABSENT"), "ABSENT is not set"),
        (("results", "--into-table", "x"), "needs --database-url-env"),
    ],
)
def test_options_that_are_missing_are_named(command: Any, arguments: tuple[str, ...], message: str) -> None:
    refused = command(*arguments)
    assert isinstance(refused.exception, CommandError)
    assert refused.exception.code == ExitCode.USAGE
    assert message in refused.exception.message
