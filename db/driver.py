"""One statement on a connection of the engine's pool, by the driver itself.

SQLAlchemy's way of executing takes as long as all else that a client does for a statement (0.25 of 0.5 ms, on a quiet
machine), and the ledger's and the feeder's statements are a tenth of a worker's time. Connections, their settings and
their pool stay SQLAlchemy's, and so do the errors.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, cast

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

_DIALECT: Final = dialect.dialect()  # type: ignore[no-untyped-call]


async def rows_of(engine: AsyncEngine, clause: TextClause, params: Mapping[str, object]) -> Sequence[Any]:
    """The rows of ``clause`` as named tuples, none where it returns none; committed, for the engine is in autocommit.

    Raises DBAPIError, or SQLAlchemy's TimeoutError where the pool has no connection.
    """
    try:
        connection = await greenlet_spawn(engine.sync_engine.raw_connection)
    except psycopg.Error as error:
        raise as_sqlalchemys(error, lost=True) from None
    try:
        driver = cast(psycopg.AsyncConnection[Any], connection.driver_connection)
        cursor = driver.cursor(row_factory=namedtuple_row)
        await cursor.execute(_written(clause.text), params)
        return await cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else ()
    except psycopg.Error as error:
        lost = driver.closed or driver.broken
        if lost:
            # A server that is gone takes all connections with it: each that is older than this is renewed when it is
            # asked for next, as where SQLAlchemy itself executes.
            await greenlet_spawn(engine.sync_engine.pool._invalidate, connection, error)
        raise as_sqlalchemys(error, lost=lost) from None
    except BaseException as error:
        await greenlet_spawn(connection.invalidate, error)  # cancelled in its midst: nobody knows how it stands
        raise
    finally:
        await greenlet_spawn(connection.close)


def as_sqlalchemys(error: psycopg.Error, *, lost: bool = False) -> DBAPIError:
    """What SQLAlchemy makes of an error of the driver, and what whoever tries again later looks for."""
    told = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost)
    return cast(DBAPIError, told)


@lru_cache(maxsize=512)
def _written(sql: str) -> bytes:
    """``sql`` with its ``:parameters`` as the driver wants them; of a text that is made at run time it would warn."""
    return str(text(sql).compile(dialect=_DIALECT)).encode()
