"""Orphans: queries of a batch whose writer died between its two commits, so that the batch does not exist.

No reader sees them, as every reader starts from a batch, but they lie in the indexes.
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch, transaction
from db.sql import statement

BATCHES_UNDER_WAY: Final = 0x506F696E
"""The class of the advisory locks that batch writers hold until their last commit, one per batch."""


async def delete_orphans(engine: AsyncEngine) -> int:
    """Deletes orphans, ten thousand at a time. Returns how many. Raises DBAPIError."""
    removed = 0
    for row in await fetch(engine, statement("find_orphans")):
        while gone := await _remove_some(engine, int(row.batch_id)):
            removed += gone
    return removed


async def _remove_some(engine: AsyncEngine, batch_id: int) -> int:
    async with transaction(engine) as connection:
        # A live writer holds the lock until its batch exists. The lock comes first, so that the next statement, whose
        # snapshot is younger, sees that batch.
        batch = {"batch_id": batch_id}
        locked = await connection.execute(statement("lock_orphans"), batch | {"kind": BATCHES_UNDER_WAY})
        if not locked.scalar_one():
            return 0
        return int((await connection.execute(statement("delete_orphans"), batch)).scalar_one())
