"""The dashboard's figures as server-sent events: one look a second for all who watch, none while nobody does."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.dashboard.collector import DashboardCollector
from api.dashboard.payload import snapshot
from api.http_errors import ApiError
from api.single_flight_cache import SingleFlightCache
from db.statement_errors import StatementFailed

log = structlog.get_logger()

LOOK_S: Final = 1.0
MOST_WATCHERS: Final = 200
SHARE: Final = 0.2
"""The most of its time that looking may take: where a look takes long, there are fewer."""
_LONGEST_PAUSE_S: Final = 10.0
_WINDOW_EVERY: Final = 2
_SILENCE_S: Final = 10.0
_STREAM_S: Final = 600.0
"""After so long a stream ends, and who watches asks again: with a key that may have been revoked."""


class DashboardStream:
    """``watch`` the figures of a tenant, or have them ``now``."""

    def __init__(self, figures: DashboardCollector, *, stopping: asyncio.Event) -> None:
        self._figures = figures
        self._stopping = stopping
        self._watched: Counter[str] = Counter()
        self._frames: dict[str, bytes] = {}
        self._turn = asyncio.Condition()
        self._looking: asyncio.Task[None] | None = None
        self._once = SingleFlightCache(self._look_once, for_s=LOOK_S)
        self._fleet = SingleFlightCache(self._look_at_all, for_s=0.0)
        self._lock = asyncio.Lock()

    async def now(self, tenant: str) -> bytes:
        """A tenant's snapshot as JSON, at most a second old. Raises what the database raises."""
        return await self._once(tenant)

    async def look(self) -> None:
        """Afterwards the figures are of now. Raises what the database raises."""
        await self._fleet(None)

    async def watch(self, tenant: str) -> AsyncIterator[bytes]:
        """Events `figures` with a snapshot each; `away` while Postgres is. Raises ApiError 429 for too many."""
        if self._watched.total() >= MOST_WATCHERS:
            raise ApiError(429, "Too many dashboards are open.", code="too_many_streams", headers={"retry-after": "5"})
        return self._events(tenant)

    async def close(self) -> None:
        """Ends looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _events(self, tenant: str) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        until, told = loop.time() + _STREAM_S, b""
        with self._watching(tenant):
            yield b"retry: 1000\n\n"
            while not self._stopping.is_set() and loop.time() < until:
                frame = self._frames.get(tenant, b"")
                if frame and frame is not told:
                    told = frame
                    yield frame
                try:
                    async with asyncio.timeout(_SILENCE_S), self._turn:
                        await self._turn.wait()
                except TimeoutError:
                    yield b": still there\n\n"

    @contextmanager
    def _watching(self, tenant: str) -> Any:
        self._watched[tenant] += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            self._watched[tenant] -= 1
            if not self._watched[tenant]:
                del self._watched[tenant]
                self._frames.pop(tenant, None)

    async def _look_on(self) -> None:
        """As long as somebody watches."""
        turn = 0
        while self._watched and not self._stopping.is_set():
            took_s = 0.0
            try:
                async with self._lock:
                    took_s = await self._figures.look(set(self._watched), window=turn % _WINDOW_EVERY == 0)
                self._frames = {tenant: _event("figures", self._body(tenant)) for tenant in self._watched}
                turn += 1
            except (DBAPIError, PoolTimeout, StatementFailed) as error:
                log.warning("dashboard_waits", error=type(error).__name__)
                self._frames = {tenant: _event("away", b"{}") for tenant in self._watched}
            async with self._turn:
                self._turn.notify_all()
            await asyncio.sleep(max(LOOK_S - took_s, min(took_s * (1 / SHARE - 1), _LONGEST_PAUSE_S)))
        async with self._turn:  # so that those who watch see that it is over
            self._turn.notify_all()

    async def _look_once(self, tenant: str) -> bytes:
        async with self._lock:
            await self._figures.look({*self._watched, tenant})
            return self._body(tenant)

    async def _look_at_all(self, _: None) -> None:
        async with self._lock:
            await self._figures.look(set(self._watched))

    def _body(self, tenant: str) -> bytes:
        return orjson.dumps(snapshot(self._figures, tenant), option=orjson.OPT_NON_STR_KEYS)


def _event(name: str, body: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), body)
