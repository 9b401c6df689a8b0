"""One leader among many processes, by an advisory lock: Postgres frees it when the leader's connection ends.

The lock is that of a transaction, which a pooler leaves on one connection, and not of a session. It is open for as long
as the process leads, and without a snapshot between two statements, so it holds up no vacuum.
"""

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

SILENT_S: Final = 15
"""A leader whose connection is silent for this long (frozen, or without a network) loses the lock."""

LOCK: Final = 727_101
"""The key of the advisory lock (727100 is that of the migrations)."""


class LeaderElection:
    """Leads for as long as its own connection lives."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None

    async def try_acquire(self) -> bool:
        """Whether this process leads, after an attempt where no process does. Raises DBAPIError."""
        if self._connection is not None:
            await self._connection.execute(text("SELECT 1"))
            return True
        connection = await self._engine.connect()
        try:
            await connection.execution_options(isolation_level="READ COMMITTED")
            leads = (await connection.execute(text("SELECT pg_try_advisory_xact_lock(:n)"), {"n": LOCK})).scalar_one()
            if leads:
                await connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{SILENT_S}s'"))
        except BaseException:
            await connection.invalidate()
            await connection.close()
            raise
        if leads:
            self._connection = connection
        else:
            await connection.close()
        return bool(leads)

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # Not returned to the pool: where the server is gone its end of the transaction would be waited for.
        try:
            await connection.invalidate()
        finally:
            await connection.close()
