"""The routing log, batch by batch, for evaluation: bounded in memory, however long it is."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.reports.batch_progress import Batch, batch_of

PAGE: int = 2000
"""How many query ids are read at a time."""


@dataclass(frozen=True, slots=True)
class LoggedBatch:
    """A batch of the log. Its queries are among ``first_query_id`` to ``last_query_id``."""

    batch: Batch
    first_query_id: int
    last_query_id: int
    is_purged: bool
    """Whether the texts of the batch's queries and answers were purged."""


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


async def pages_of(engine: AsyncEngine, name: str, logged: LoggedBatch) -> AsyncIterator[Sequence[Row[Any]]]:
    """The rows of the statement ``name`` (``log_pairs`` or ``log_queries``) for its queries, page by page."""
    for first in range(logged.first_query_id, logged.last_query_id + 1, PAGE):
        last = min(first + PAGE - 1, logged.last_query_id)
        yield await run_report(engine, name, batch_id=logged.batch.id, first=first, last=last)
