"""Which workers there are: one row each, renewed while it lives."""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

ALIVE_S = 6.0
"""A worker that was not seen for this long is taken for gone; it says so every third of it."""


class WorkerRegistry:
    """The rows of ``workers``."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def arrive(self, *, name: str, role: str, host: str, pid: int, slots: int, router: str | None = None) -> int:
        """Registers a worker process; returns its id."""
        return int(
            (
                await self._one(
                    "INSERT INTO workers (name, role, host, pid, slots, router)"
                    " VALUES (:name, :role, :host, :pid, :slots, :router) RETURNING id",
                    name=name,
                    role=role,
                    host=host,
                    pid=pid,
                    slots=slots,
                    router=router,
                )
            )[0][0]
        )

    async def renew(self, worker_id: int, *, in_flight: int, router: str | None = None) -> None:
        """The worker lives, has ``in_flight`` calls under way and decides by ``router``."""
        await self._one(
            "UPDATE workers SET seen_at = now(), stopped_at = NULL, in_flight = :in_flight, router = :router"
            " WHERE id = :id",
            id=worker_id,
            in_flight=in_flight,
            router=router,
        )

    async def leave(self, worker_id: int) -> None:
        """The worker stopped in an orderly way."""
        await self._one("UPDATE workers SET stopped_at = now(), in_flight = 0 WHERE id = :id", id=worker_id)

    async def prune_stale(self) -> list[str]:
        """Signs off the workers that have vanished without a word; returns their names, each once."""
        vanished = await self._one(
            "UPDATE workers SET stopped_at = now(), in_flight = 0"
            " WHERE stopped_at IS NULL AND seen_at < now() - make_interval(secs => :s) RETURNING name",
            s=ALIVE_S,
        )
        return [row.name for row in vanished]

    async def alive(self) -> list[Row[Any]]:
        """Workers seen within `ALIVE_S`: id, name, role, slots, in_flight, seen_at."""
        return await self._one(
            "SELECT id, name, role, slots, in_flight, seen_at FROM workers"
            " WHERE stopped_at IS NULL AND seen_at > now() - make_interval(secs => :s) ORDER BY name",
            s=ALIVE_S,
        )

    async def _one(self, sql: str, **params: object) -> list[Row[Any]]:
        async with self._engine.connect() as connection:
            outcome = await connection.execute(text(sql), params)
            return list(outcome.all()) if outcome.returns_rows else []
