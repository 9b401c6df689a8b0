"""One query: how to find it, where it stands, and every decision and call that brought it there."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import transaction
from db.reports import report, run_report

_MOST_DIGITS: Final = 18
SEARCH_S: Final = 5
"""Maximum seconds that a search may read a batch."""
_QUERY_CANCELED: Final = "57014"


class SearchTooSlow(Exception):
    """A search took longer than `SEARCH_S`."""


async def find_queries(engine: AsyncEngine, name: str, *, public_id: str | None = None) -> Sequence[Row[Any]]:
    """Queries that ``name`` may mean, the newest first: a query's number, or a custom_id (at most 20).

    ``public_id`` looks in that batch only.
    """
    by_custom_id = await run_report(engine, "query_find", query_id=None, custom_id=name, public_id=public_id)
    if by_custom_id or public_id is not None or not name.isdecimal() or len(name) > _MOST_DIGITS:
        return by_custom_id
    return await run_report(engine, "query_find", query_id=int(name), custom_id=None, public_id=None)


async def search_queries(
    engine: AsyncEngine, batch_id: int, *, custom_id: str | None, reason: str | None, state: str | None, rows: int
) -> Sequence[Row[Any]]:
    """At most ``rows`` queries of a batch whose custom_id and log have these parts. Raises `SearchTooSlow`.

    It reads the whole batch, of which no index knows the parts of a text.
    """
    wanted = {"batch_id": batch_id, "custom_id": custom_id, "reason": reason, "state": state, "rows": rows}
    try:
        async with transaction(engine) as connection:
            await connection.execute(text(f"SET LOCAL statement_timeout = '{SEARCH_S}s'"))
            return (await connection.execute(report("query_search"), wanted)).all()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _QUERY_CANCELED:
            raise SearchTooSlow from None
        raise


async def query_events(engine: AsyncEngine, query_id: int) -> Sequence[Row[Any]]:
    """Decisions and calls by time; ``event`` says which."""
    return await run_report(engine, "query_timeline", query_id=query_id)
