"""Rows on their way into one table of Postgres, which writes them while those after them are still being read."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from psycopg import AsyncConnection


async def run_uncancelled(work: Coroutine[Any, Any, object]) -> None:
    """``work`` to its end. Raises what it raises; a cancellation that comes meanwhile hits what is awaited next."""
    me = asyncio.current_task()
    if me is None:
        raise RuntimeError("nobody awaits it in a task")
    working = asyncio.create_task(work)
    stopped = 0
    while not working.done():
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError:
            me.uncancel()
            stopped += 1
    for _ in range(stopped):
        me.cancel()
    working.result()


MAX_BUFFERED_BYTES: Final = 4 * 1024**2
"""What may wait for Postgres in this process, beside the piece that is being put."""

PIECES_PER_TURN: Final = 40
"""After which one COPY ends and the next begins: only then does Postgres say what it has against the rows."""

PATIENCE_S: Final = 2.0
"""How long a stop waits for what Postgres is at; it may be waiting itself, for a lock."""


class _Abandoned(Exception):
    """Whoever fed the stream has failed."""


class CopyStream:
    """COPY in its text format, in whatever transaction ``connection`` is in.

    Feed it with `put`, then `finish` it, or `abandon` it with the others.
    Nobody else may use ``connection`` until then.
    """

    def __init__(self, connection: AsyncConnection[Any], copy: str) -> None:
        self._connection = connection
        self._copy = copy
        self._ahead: deque[bytes] = deque()
        self._bytes_ahead = 0
        self._came = asyncio.Event()
        self._went = asyncio.Event()
        self._ended = self._abandoned = False
        self._sending = asyncio.create_task(self._send())
        self._sending.add_done_callback(lambda _: self._went.set())

    async def put(self, rows: bytes) -> None:
        """Waits while too much is ahead. Raises what Postgres had against these rows or ones before them."""
        self._ahead.append(rows)
        self._bytes_ahead += len(rows)
        self._came.set()
        # What is read is read without a pause: this is where the loop looks whether the socket takes more, and
        # whether Postgres has answered. A look, the wake-up that it causes, and the step after that.
        for _ in range(3):
            await asyncio.sleep(0)
        while self._bytes_ahead > MAX_BUFFERED_BYTES and not self._sending.done():
            self._went.clear()
            await self._went.wait()
        if self._sending.done():
            self._sending.result()

    async def finish(self) -> None:
        """All rows are written. Raises what Postgres had against one of them."""
        self._ended = True
        self._came.set()
        # Not awaited itself: being cancelled here must not cancel it, for `abandon` may, and twice would be one too
        # many for the driver, which is busy freeing the connection.
        await asyncio.wait({self._sending})
        self._sending.result()

    def abandon(self) -> "asyncio.Task[None]":
        """What is ahead is not written any more; the connection is free once the task that this returns has ended."""
        self._abandoned = True
        self._came.set()
        return self._sending

    async def _send(self) -> None:
        rows: bytes | None = b""
        async with self._connection.cursor() as cursor:
            while rows is not None:
                async with cursor.copy(self._copy) as copy:
                    for _ in range(PIECES_PER_TURN):
                        if (rows := await self._next()) is None:
                            break
                        await copy.write(rows)

    async def _next(self) -> bytes | None:
        while not self._ahead and not self._ended and not self._abandoned:
            self._came.clear()
            await self._came.wait()
        if self._abandoned:
            raise _Abandoned
        if not self._ahead:
            return None
        rows = self._ahead.popleft()
        self._bytes_ahead -= len(rows)
        self._went.set()
        return rows


async def abandon(streams: Iterable[CopyStream]) -> None:
    """Their connections are free again; what was written is for a rollback to take back.

    Who is told to stop meanwhile waits too, and stops then: a rollback beside a COPY waits for ever, or closes the
    socket that is read from.
    """
    await run_uncancelled(_freed({stream.abandon() for stream in streams}))
    await asyncio.sleep(0)  # where who was told to stop stops


async def _freed(sending: "set[asyncio.Task[None]]") -> None:
    """What Postgres is at, some thousand rows, is waited for; only where that does not end is it cancelled.

    Cancelled just as a COPY begins, the driver leaves it open, and takes no rollback.
    """
    if not sending:
        return
    _, late = await asyncio.wait(sending, timeout=PATIENCE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)  # each error is told elsewhere
