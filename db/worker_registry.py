"""The running workers: one row each, renewed by heartbeats."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import APP_ROLE, connect_blocking
from db.sql import Statements

ALIVE_S: Final = 6.0
"""Seconds without a heartbeat after which a worker counts as gone. A worker sends a heartbeat every
third of this time."""


def report_deaths(url: str, workers: Sequence[int]) -> bool:
    """Record that the processes of these ``workers`` have ended, for a supervisor that has waited for them.

    It needs no event loop, and blocks for some seconds at most. Return False if Postgres does not record it now: until
    it does, the queries of these workers wait for their leases.
    """
    try:
        with connect_blocking(url, {"role": APP_ROLE, "statement_timeout": "5s"}) as connection:
            connection.execute("UPDATE workers SET died_at = now() WHERE id = ANY(%s)", [list(workers)])
    except psycopg.Error:
        return False
    return True


class WorkerRegistry(Statements):
    """The rows of ``workers``."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._registered: dict[str, object] = {}

    async def register(
        self, *, name: str, role: str, host: str, pid: int, slots: int, router: str | None = None
    ) -> int:
        """Registers a worker process; returns its id."""
        (row,) = await self._query("SELECT nextval('workers_id_seq') AS id")
        self._registered = {"id": row.id, "name": name, "role": role, "host": host, "pid": pid, "slots": slots}
        await self._insert(in_flight=0, router=router)
        return int(row.id)

    async def _insert(self, *, in_flight: int, router: str | None) -> None:
        await self._query(
            "INSERT INTO workers (id, name, role, host, pid, slots, in_flight, router)"
            " VALUES (:id, :name, :role, :host, :pid, :slots, :in_flight, :router)",
            **self._registered,
            in_flight=in_flight,
            router=router,
        )

    async def heartbeat(self, worker_id: int, *, in_flight: int, router: str | None = None) -> None:
        """The worker is alive, has ``in_flight`` calls under way and decides by ``router``."""
        found = await self._query(
            "UPDATE workers SET seen_at = now(), stopped_at = NULL, in_flight = :in_flight, router = :router"
            " WHERE id = :id RETURNING id",
            id=worker_id,
            in_flight=in_flight,
            router=router,
        )
        if not found and self._registered.get("id") == worker_id:
            # A fail-over to a standby that was behind has lost the row.
            await self._insert(in_flight=in_flight, router=router)

    async def deregister(self, worker_id: int) -> None:
        """The worker stopped in an orderly way."""
        await self._query("UPDATE workers SET stopped_at = now(), in_flight = 0 WHERE id = :id", id=worker_id)

    async def prune_stale(self) -> list[str]:
        """Marks workers without a heartbeat for `ALIVE_S`, and dead ones, as stopped; returns each name once."""
        rows = await self._query(
            "UPDATE workers SET stopped_at = now(), in_flight = 0 WHERE stopped_at IS NULL"
            " AND (died_at IS NOT NULL OR seen_at < now() - make_interval(secs => :s)) RETURNING name",
            s=ALIVE_S,
        )
        return [row.name for row in rows]

    async def died(self, *, within_s: float) -> list[int]:
        """The ids of workers whose supervisor reported their death in the last ``within_s``."""
        rows = await self._query("SELECT id FROM workers WHERE died_at > now() - make_interval(secs => :s)", s=within_s)
        return [row.id for row in rows]

    async def alive(self) -> Sequence[Row[Any]]:
        """Workers seen within `ALIVE_S`: id, name, role, slots, in_flight, seen_at."""
        return await self._query(
            "SELECT id, name, role, slots, in_flight, seen_at FROM workers"
            " WHERE stopped_at IS NULL AND seen_at > now() - make_interval(secs => :s) ORDER BY name",
            s=ALIVE_S,
        )
