"""What a deposit left that died between its two commits: queries of a batch that never came to be.

Nobody sees them, for whoever looks at queries comes from their batch; but they lie in the indexes.
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch, transaction
from db.sql import statement

BATCHES_UNDER_WAY: Final = 0x506F696E
"""The class of the advisory locks that deposits hold until their last commit, one for each batch."""


async def delete_orphans(engine: AsyncEngine) -> int:
    """Removes them, ten thousand at a time. Returns how many. Raises DBAPIError."""
    removed = 0
    for row in await fetch(engine, statement("find_orphans")):
        while gone := await _remove_some(engine, int(row.batch_id)):
            removed += gone
    return removed


async def _remove_some(engine: AsyncEngine, batch_id: int) -> int:
    async with transaction(engine) as connection:
        # A deposit that lives holds it until its batch is there. Asked first, so that the next statement, which sees
        # what was committed before it began, sees that batch.
        batch = {"batch_id": batch_id}
        asked = await connection.execute(statement("lock_orphans"), batch | {"kind": BATCHES_UNDER_WAY})
        if not asked.scalar_one():
            return 0
        return int((await connection.execute(statement("delete_orphans"), batch)).scalar_one())
