"""The routing log, batch by batch, for evaluation: bounded in memory, however long it is."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.reports.batch_stats import Batch, batch_of

PAGE: int = 2000
"""Ids of queries that are read at once."""


@dataclass(frozen=True, slots=True)
class LoggedBatch:
    """A batch of the log. Its queries are among ``first_query_id`` to ``last_query_id``."""

    batch: Batch
    first_query_id: int
    last_query_id: int
    is_purged: bool
    """What its queries said, and was answered, is gone."""


async def logged_batches(
    engine: AsyncEngine, *, public_id: str | None = None, since: datetime | None = None
) -> list[LoggedBatch]:
    """The batch of that public id, or all since that moment, oldest first."""
    rows = await run_report(engine, "log_batches", public_id=public_id, since=since)
    return [
        LoggedBatch(
            batch=batch_of(row),
            first_query_id=row.first_query_id,
            last_query_id=row.last_query_id,
            is_purged=row.purged_at is not None,
        )
        for row in rows
    ]


async def routes_of(engine: AsyncEngine, logged: LoggedBatch) -> Sequence[Row[Any]]:
    """How its routing came out; see ``log_routes.sql``."""
    return await run_report(engine, "log_routes", batch_id=logged.batch.id)


async def judged_of(engine: AsyncEngine, logged: LoggedBatch) -> Sequence[Row[Any]]:
    """What the judge said; see ``log_judged.sql``."""
    return await run_report(engine, "log_judged", batch_id=logged.batch.id)


async def shapes_of(engine: AsyncEngine, logged: LoggedBatch) -> Sequence[Row[Any]]:
    """Its corrections and repairs; see ``log_shapes.sql``."""
    return await run_report(engine, "log_shapes", batch_id=logged.batch.id)


async def graded_of(engine: AsyncEngine, logged: LoggedBatch) -> Sequence[Row[Any]]:
    """How right its labelled answers are, by route; see ``log_graded.sql``."""
    return await run_report(engine, "log_graded", batch_id=logged.batch.id)


async def graded_verdicts_of(engine: AsyncEngine, logged: LoggedBatch) -> Sequence[Row[Any]]:
    """How right its labelled answers are, by the judge's confidence; see ``log_graded_verdicts.sql``."""
    return await run_report(engine, "log_graded_verdicts", batch_id=logged.batch.id)


async def pairs_of(engine: AsyncEngine, logged: LoggedBatch) -> AsyncIterator[Sequence[Row[Any]]]:
    """Untrusted answers beside the later ones, page by page; see ``log_pairs.sql``."""
    for first in range(logged.first_query_id, logged.last_query_id + 1, PAGE):
        last = min(first + PAGE - 1, logged.last_query_id)
        yield await run_report(engine, "log_pairs", batch_id=logged.batch.id, first=first, last=last)


async def queries_of(engine: AsyncEngine, logged: LoggedBatch) -> AsyncIterator[Sequence[Row[Any]]]:
    """What its routed queries said and where they went, page by page; see ``log_queries.sql``."""
    for first in range(logged.first_query_id, logged.last_query_id + 1, PAGE):
        last = min(first + PAGE - 1, logged.last_query_id)
        yield await run_report(engine, "log_queries", batch_id=logged.batch.id, first=first, last=last)
