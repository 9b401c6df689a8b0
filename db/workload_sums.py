"""Sums of workloads by batch. They are computed once a batch has ended, outside the hot path."""

from typing import Final

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch, transaction
from db.reports.batch_progress import find_batch
from db.reports.batch_stats import costs_by_router
from db.sql import statement

_AT_ONCE: Final = 200
"""Maximum batches per run, because all calls of each are read."""


async def sum_workloads(engine: AsyncEngine) -> int:
    """Fills `workload_sums` with the batches that have ended since the last time. Returns how many."""
    due = await fetch(engine, statement("workload_sums_due"), rows=_AT_ONCE)
    for row in due:
        batch = await find_batch(engine, row.public_id)
        if batch is None:
            continue
        rows = orjson.dumps(await costs_by_router(engine, batch)).decode()
        async with transaction(engine) as connection:
            await connection.execute(statement("workload_sums_clear"), {"batch_id": batch.id})
            await connection.execute(statement("workload_sums_add"), {"batch_id": batch.id, "rows": rows})
    return len(due)
