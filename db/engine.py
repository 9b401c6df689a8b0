"""Connections to Postgres: one asynchronous engine per process, and the three ways to run a statement on it.

`fetch` runs one statement and `transaction` several. `execute_raw` is for the ledger alone: SQLAlchemy's execution
takes half of a client's time for a statement (0.25 of 0.5 ms on a quiet machine), and the ledger's statements are a
tenth of a worker's time, so it uses the driver itself. The pool and the errors stay SQLAlchemy's.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final, cast

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Executable, Row, TextClause, make_url, text
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

_DIALECT: Final = dialect.dialect()  # type: ignore[no-untyped-call]


async def execute_raw(engine: AsyncEngine, clause: TextClause, params: Mapping[str, object]) -> Sequence[Any]:
    """The rows of ``clause`` as named tuples, none where it returns none; committed, for the engine is in autocommit.

    Raises DBAPIError, or SQLAlchemy's TimeoutError where the pool has no connection.
    """
    try:
        connection = await greenlet_spawn(engine.sync_engine.raw_connection)
    except psycopg.Error as error:
        raise to_dbapi_error(error, lost=True) from None
    try:
        driver = cast(psycopg.AsyncConnection[Any], connection.driver_connection)
        cursor = driver.cursor(row_factory=namedtuple_row)
        await cursor.execute(_compile(clause.text), params)
        return await cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else ()
    except psycopg.Error as error:
        lost = driver.closed or driver.broken
        if lost:
            # A lost server takes all connections with it: SQLAlchemy, too, then renews each older connection of the
            # pool at its next use.
            await greenlet_spawn(engine.sync_engine.pool._invalidate, connection, error)
        raise to_dbapi_error(error, lost=lost) from None
    except BaseException as error:
        await greenlet_spawn(connection.invalidate, error)  # cancelled halfway: its state is unknown
        raise
    finally:
        await greenlet_spawn(connection.close)


def to_dbapi_error(error: psycopg.Error, *, lost: bool = False) -> DBAPIError:
    """The error that SQLAlchemy raises for ``error`` of the driver; ``lost``: the connection is gone."""
    wrapped = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost)
    return cast(DBAPIError, wrapped)


@lru_cache(maxsize=512)
def _compile(sql: str) -> bytes:
    """``sql`` with its ``:parameters`` in the driver's style, as bytes: the types of psycopg reject a computed str."""
    return str(text(sql).compile(dialect=_DIALECT)).encode()


async def fetch(engine: AsyncEngine, clause: Executable, **params: object) -> Sequence[Row[Any]]:
    """The rows of ``clause``, none where it returns none. Raises DBAPIError."""
    async with engine.connect() as connection:
        outcome = await connection.execute(clause, params)
        return outcome.all() if outcome.returns_rows else ()


APP_ROLE = "pointsman_app"
"""May read and write, but neither UPDATE nor DELETE a decision. The migrations create it."""

AUDITOR_ROLE = "pointsman_auditor"
"""May read the views, under a statement timeout."""

KEY_LOOKUP_SETTINGS = {
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Session settings of workers. Their statements reach a few rows by key, whatever the size of the tables: a plan made
while a table was still empty would scan it for ever."""


def make_engine(
    url: str, *, role: str | None = APP_ROLE, pool_size: int = 4, settings: Mapping[str, str] | None = None
) -> AsyncEngine:
    """An engine whose connections are in autocommit: each statement is a whole move.

    ``role`` is set on connecting, so that even an owner's URL runs with the rights of the application; None keeps the
    rights of the URL's user (migrations). ``settings`` are further ``SET`` values of the session.
    """
    session = {"timezone": "UTC", "jit": "off", "lock_timeout": "30s", **(settings or {})}
    if role is not None:
        session["role"] = role
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    return create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={
            "options": options,
            "connect_timeout": 10,
            "application_name": "pointsman",
            # Not PGCLIENTENCODING: seals hash values as they are sent.
            "client_encoding": "utf8",
        },
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,  # there is nothing to roll back
        pool_size=pool_size,
        max_overflow=4,
        # The text of an error never holds parameters: prompts, answers.
        hide_parameters=True,
        pool_timeout=60,
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction, for the few moves that are more than one statement."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            yield connection
