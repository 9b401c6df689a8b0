"""One query: how to find it, where it stands, and every decision and call that brought it there."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report

_MOST_DIGITS: Final = 18


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
    """At most ``rows`` queries of a batch whose custom_id and log have these parts.

    It reads the whole batch, of which no index knows the parts of a text.
    """
    return await run_report(
        engine, "query_search", batch_id=batch_id, custom_id=custom_id, reason=reason, state=state, rows=rows
    )


async def query_events(engine: AsyncEngine, query_id: int) -> Sequence[Row[Any]]:
    """Decisions and calls by time; ``event`` says which."""
    return await run_report(engine, "query_timeline", query_id=query_id)
