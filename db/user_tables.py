"""Tables in a database of the user's own: the rows of a query out of it, and results into it, both by COPY.

The query is the user's, typed on the command line; names of tables are quoted, and no data becomes part of a statement.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final

import psycopg
from psycopg import sql
from sqlalchemy import make_url

RESULT_TYPES: Final = {
    "batch_id": "text NOT NULL",
    "custom_id": "text NOT NULL",
    "state": "text NOT NULL",
    "answer": "text",
    "tier": "text",
    "model": "text",
    "confidence": "double precision",
    "cost_usd": "numeric(18, 9)",
    "escalations": "integer",
    "error": "text",
}
"""The columns of a table of results, with their types."""

_COLUMNS: Final = sql.SQL(", ").join(map(sql.Identifier, RESULT_TYPES))
_CONNECT_S: Final = 10
_SYNTAX_OR_NAME: Final = ("42", "3F", "25")
"""SQLSTATE classes whose message names only what the user typed: syntax, missing or forbidden tables, read-only."""


class UserDatabaseError(Exception):
    """The user's database cannot be reached, or refuses a statement. Without its address or data."""


def copy_query(url: str, query: str, file: BinaryIO, *, max_bytes: int) -> None:
    """Writes the rows of ``query`` to ``file`` as CSV with a header, streamed, from a read-only transaction.

    Raises UserDatabaseError, also for more than ``max_bytes``.
    """
    bare = query.strip().rstrip(";")
    # A line break, so that a comment at its end hides nothing.
    statement = sql.SQL("COPY (\n{}\n) TO STDOUT (FORMAT csv, HEADER true)").format(sql.SQL(bare))
    with _as_user_error(), psycopg.connect(_libpq(url), connect_timeout=_CONNECT_S, client_encoding="utf8") as database:
        database.read_only = True
        written = 0
        with database.cursor() as cursor, cursor.copy(statement) as copy:
            for piece in copy:
                written += len(piece)
                if written > max_bytes:
                    raise UserDatabaseError(f"the query returns more than {max_bytes} bytes")
                file.write(piece)


def prepare_table(url: str, name: str) -> None:
    """Creates the table ``name`` or ``schema.name`` if there is none. Raises UserDatabaseError if it does not fit."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in RESULT_TYPES.items()
    )
    create = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY (batch_id, custom_id))")
    with _as_user_error(), psycopg.connect(_libpq(url), connect_timeout=_CONNECT_S) as database:
        exists = database.execute(
            "SELECT to_regclass(%s) IS NOT NULL", [_identifier(name).as_string(database)]
        ).fetchone()
        if exists != (True,):  # the right to create is not needed for one that is there
            database.execute(create.format(_identifier(name), columns))
        database.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(_COLUMNS, _identifier(name)))


async def copy_results(url: str, name: str, public_id: str, rows: AsyncIterator[Sequence[object]]) -> int:
    """Replaces the rows of a batch in the table ``name`` by ``rows``, in one transaction; returns their number.

    A row has the values of `RESULT_TYPES` in their order. Raises UserDatabaseError.
    """
    written = 0
    with _as_user_error():
        connection = await psycopg.AsyncConnection.connect(
            _libpq(url), connect_timeout=_CONNECT_S, client_encoding="utf8"
        )
        async with connection, connection.cursor() as cursor:
            await cursor.execute(sql.SQL("DELETE FROM {} WHERE batch_id = %s").format(_identifier(name)), [public_id])
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(_identifier(name), _COLUMNS)
            async with cursor.copy(statement) as copy:
                async for row in rows:
                    await copy.write_row(row)
                    written += 1
    return written


def _identifier(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


def _libpq(url: str) -> str:
    """``url`` as libpq reads it, also one of SQLAlchemy's."""
    try:
        return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    except Exception as error:  # its text quotes the URL, with the password
        raise UserDatabaseError("the address is not a postgresql:// URL") from error


@contextmanager
def _as_user_error() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if state.startswith(_SYNTAX_OR_NAME):
            raise UserDatabaseError(f"the database refuses a statement: {error.diag.message_primary}") from error
        if isinstance(error, psycopg.OperationalError):
            raise UserDatabaseError("the database cannot be reached, or refuses the login") from error
        raise UserDatabaseError(f"the database refuses a statement (SQLSTATE {state})") from error
