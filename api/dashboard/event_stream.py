"""The dashboard's data as server-sent events, with one refresh per second for all watchers, and none without
watchers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import contextmanager, suppress
from typing import Any, Final

import orjson
import structlog
from async_lru import alru_cache
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.dashboard.collector import DashboardCollector
from api.dashboard.payload import snapshot
from api.responses import server_sent_event
from api.tenant_shares import TURN_S
from db.statement_errors import StatementFailed

log = structlog.get_logger()

LOOK_S: Final = 1.0
MAX_REFRESH_SHARE: Final = 0.2
"""The maximum share of time spent on refreshes. Slow refreshes become less frequent."""
_LONGEST_PAUSE_S: Final = 10.0
_WINDOW_EVERY: Final = 2
_MAX_TENANTS: Final = 1000
_SILENCE_S: Final = 10.0


class DashboardStream:
    """Streams the data of a tenant (``watch``), or returns it (``now``)."""

    def __init__(self, figures: DashboardCollector, *, stopping: asyncio.Event) -> None:
        self._figures = figures
        self._stopping = stopping
        self._watched: Counter[str] = Counter()
        self._frames: dict[str, bytes] = {}
        self._turn = asyncio.Condition()
        self._looking: asyncio.Task[None] | None = None
        self._once = alru_cache(maxsize=_MAX_TENANTS, ttl=LOOK_S)(self._look_once)
        self._look = alru_cache(ttl=0.0)(self._look_for_watched)
        self._lock = asyncio.Lock()

    async def now(self, tenant: str) -> bytes:
        """Return a tenant's snapshot as JSON, at most a second old. Raises what the database raises."""
        return await self._once(tenant)

    async def look(self) -> None:
        """Refresh the figures. Concurrent calls share one refresh. Raises what the database raises."""
        await self._look()

    async def close(self) -> None:
        """Stop refreshing."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def watch(self, tenant: str, *, is_valid: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """Yield `figures` events with a snapshot, and `away` without Postgres. Ends when the key is no longer valid."""
        loop = asyncio.get_running_loop()
        spoke, sent = loop.time(), b""
        with self._watching(tenant):
            yield b"retry: 1000\n\n"
            while not self._stopping.is_set() and await is_valid():
                frame = self._frames.get(tenant, b"")
                if frame and frame is not sent:
                    spoke, sent = loop.time(), frame
                    yield frame
                elif loop.time() - spoke > _SILENCE_S:
                    spoke = loop.time()
                    yield b": keep-alive\n\n"
                with suppress(TimeoutError):
                    async with asyncio.timeout(TURN_S), self._turn:
                        await self._turn.wait()

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
        """Refresh while there are watchers."""
        turn = 0
        while self._watched and not self._stopping.is_set():
            took_s = 0.0
            try:
                async with self._lock:
                    took_s = await self._figures.look(set(self._watched), window=turn % _WINDOW_EVERY == 0)
                frames = {}
                for tenant in list(self._watched):
                    frames[tenant] = server_sent_event("figures", self._body(tenant))
                    await asyncio.sleep(0)  # each takes tens of milliseconds: other requests run in between
                self._frames = {tenant: frame for tenant, frame in frames.items() if tenant in self._watched}
                turn += 1
            except (DBAPIError, PoolTimeout, StatementFailed) as error:
                log.warning("dashboard_retrying", error=type(error).__name__)
                self._frames = {tenant: server_sent_event("away", b"{}") for tenant in self._watched}
            async with self._turn:
                self._turn.notify_all()
            await asyncio.sleep(max(LOOK_S - took_s, min(took_s * (1 / MAX_REFRESH_SHARE - 1), _LONGEST_PAUSE_S)))
        async with self._turn:  # wakes the watchers, which then end
            self._turn.notify_all()

    async def _look_once(self, tenant: str) -> bytes:
        async with self._lock:
            await self._figures.look({*self._watched, tenant})
            return self._body(tenant)

    async def _look_for_watched(self) -> None:
        async with self._lock:
            await self._figures.look(set(self._watched))

    def _body(self, tenant: str) -> bytes:
        return orjson.dumps(snapshot(self._figures, tenant), option=orjson.OPT_NON_STR_KEYS)
