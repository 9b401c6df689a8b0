"""Orphans: queries of a batch whose writer died between its two commits, so that the batch does not exist.

No reader sees them, as every reader starts from a batch, but they lie in the indexes.
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch
from db.sql import statement

BATCHES_UNDER_WAY: Final = 0x506F696E
"""The class of the advisory locks that batch writers hold until their last commit, one per batch. The function
``pointsman_delete_orphans`` has the same number in it."""


async def delete_orphans(engine: AsyncEngine) -> int:
    """Deletes orphans, ten thousand at a time. Returns how many. Raises DBAPIError."""
    removed = 0
    for row in await fetch(engine, statement("find_orphans")):
        while gone := await _remove_some(engine, int(row.batch_id)):
            removed += gone
    return removed


async def _remove_some(engine: AsyncEngine, batch_id: int) -> int:
    (removed,) = await fetch(engine, "SELECT pointsman_delete_orphans(:batch_id) AS queries", batch_id=batch_id)
    return int(removed.queries)
