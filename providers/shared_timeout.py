"""`asyncio.timeout` for many blocks at once: a timer for each took a twentieth of a call's CPU."""

import asyncio
from types import TracebackType


class SharedTimeout:
    """Limits blocks to ``limit_s`` seconds each, on one event loop.

    The limit is the same for all, so the block that was entered first is the first to end, and one timer is enough.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ends: dict[asyncio.Timeout, float] = {}
        """When each block that is entered has to end, the first one first."""
        self._timer: asyncio.TimerHandle | None = None

    def block(self) -> "_LimitedBlock":
        """For ``async with``: raises TimeoutError at its end where it took longer."""
        return _LimitedBlock(self)

    def enter(self, timeout: asyncio.Timeout) -> None:
        """Cancels ``timeout``'s block after the limit, unless it leaves before."""
        loop = asyncio.get_running_loop()
        self._ends[timeout] = end = loop.time() + self._limit_s
        if self._timer is None:
            self._timer = loop.call_at(end, self._end_overdue)

    def leave(self, timeout: asyncio.Timeout) -> None:
        """The block of ``timeout`` has ended."""
        self._ends.pop(timeout, None)

    def _end_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._ends:
            timeout, end = next(iter(self._ends.items()))
            if end > loop.time():
                self._timer = loop.call_at(end, self._end_overdue)
                return
            del self._ends[timeout]
            timeout.reschedule(end)


class _LimitedBlock:
    __slots__ = ("_shared", "_timeout")

    def __init__(self, shared: SharedTimeout) -> None:
        self._shared = shared
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._shared.enter(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shared.leave(self._timeout)
        await self._timeout.__aexit__(kind, error, traceback)
