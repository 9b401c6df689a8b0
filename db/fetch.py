"""One statement on a connection of its own, and its rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncEngine


async def fetch(engine: AsyncEngine, clause: Executable, **params: object) -> Sequence[Row[Any]]:
    """The rows of ``clause``, none where it returns none. Raises DBAPIError."""
    async with engine.connect() as connection:
        outcome = await connection.execute(clause, params)
        return outcome.all() if outcome.returns_rows else ()
