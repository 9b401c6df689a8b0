"""One leader among many, by an advisory lock: Postgres frees it when the leader's connection ends."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

SILENT_S = 15
"""A leader whose connection says nothing for so long (frozen, or its network gone) leads no more."""

LOCK = 727_101
"""The advisory lock's number (727100 is the migrations')."""


class LeaderElection:
    """Held for as long as its own connection lives."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None

    async def held(self) -> bool:
        """Whether this process leads; tries to lead where nobody does. Raises DBAPIError while Postgres is away."""
        if self._connection is not None:
            await self._connection.execute(text("SELECT 1"))
            return True
        connection = await self._engine.connect()
        try:
            won = (await connection.execute(text("SELECT pg_try_advisory_lock(:n)"), {"n": LOCK})).scalar_one()
            if won:
                await connection.execute(text(f"SET idle_session_timeout = '{SILENT_S}s'"))
        except BaseException:
            await connection.invalidate()
            await connection.close()
            raise
        if won:
            self._connection = connection
        else:
            await connection.close()
        return bool(won)

    async def drop(self) -> None:
        """Leads no more."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # Its connection ends with it: the lock is free, and nothing of the session is left to the next user.
        try:
            await connection.invalidate()
        finally:
            await connection.close()
