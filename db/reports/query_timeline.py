"""The story of one query: where it stands, and every decision and call that brought it there."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report

_MOST_DIGITS = 18


async def find_queries(engine: AsyncEngine, name: str, *, public_id: str | None = None) -> Sequence[Row[Any]]:
    """Queries that ``name`` may mean, the newest first: a query's number, or a custom_id (at most 20).

    ``public_id`` looks in that batch only.
    """
    by_custom_id = await run_report(engine, "query_find", query_id=None, custom_id=name, public_id=public_id)
    if by_custom_id or public_id is not None or not name.isdecimal() or len(name) > _MOST_DIGITS:
        return by_custom_id
    return await run_report(engine, "query_find", query_id=int(name), custom_id=None, public_id=None)


async def query_events(engine: AsyncEngine, query_id: int) -> Sequence[Row[Any]]:
    """Decisions and calls by time; ``event`` says which."""
    return await run_report(engine, "query_timeline", query_id=query_id)
