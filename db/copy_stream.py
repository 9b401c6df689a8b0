"""Rows streamed into one table: Postgres writes them while later rows are still being read."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from psycopg import AsyncConnection


async def run_uncancelled(work: Coroutine[Any, Any, object]) -> None:
    """Runs ``work`` to its end and raises its error; a cancellation during it takes effect at the next await."""
    me = asyncio.current_task()
    if me is None:
        raise RuntimeError("run_uncancelled needs a running task")
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
"""Maximum bytes buffered for Postgres in this process, not counting the piece being written."""

PIECES_PER_TURN: Final = 40
"""Pieces per COPY: only at the end of a COPY does Postgres report errors in its rows."""

PATIENCE_S: Final = 2.0
"""Maximum seconds that a stop waits for the running COPY, which may itself wait for a lock."""


class _Abandoned(Exception):
    """The producer of the rows has failed."""


class CopyStream:
    """COPY in its text format, in whatever transaction ``connection`` is in.

    `write` rows, then `finish`, or `abandon` the stream with the others. Until then ``connection`` is its own.
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

    async def write(self, rows: bytes) -> None:
        """Waits while too many bytes are buffered. Raises Postgres' error for these rows or earlier ones."""
        self._ahead.append(rows)
        self._bytes_ahead += len(rows)
        self._came.set()
        # The producer reads without a pause: here the loop checks whether the socket takes more, and whether Postgres
        # has answered. One step for the check, one for the wake-up that it causes, and one for the step after that.
        for _ in range(3):
            await asyncio.sleep(0)
        while self._bytes_ahead > MAX_BUFFERED_BYTES and not self._sending.done():
            self._went.clear()
            await self._went.wait()
        if self._sending.done():
            self._sending.result()

    async def finish(self) -> None:
        """Waits until all rows are written. Raises Postgres' error for one of them."""
        self._ended = True
        self._came.set()
        # Not awaited itself: a cancellation here must not cancel it. `abandon` may, and the driver, which is busy
        # freeing the connection, does not survive a second cancellation.
        await asyncio.wait({self._sending})
        self._sending.result()

    def abandon(self) -> "asyncio.Task[None]":
        """Drops the buffered rows; the connection is free once the returned task has ended."""
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
    """Frees their connections; a rollback must take back what was written.

    A cancellation during it waits as well: a rollback beside a COPY waits for ever, or closes the socket that is read.
    """
    await run_uncancelled(_freed({stream.abandon() for stream in streams}))
    await asyncio.sleep(0)  # a pending cancellation takes effect here


async def _freed(sending: "set[asyncio.Task[None]]") -> None:
    """Waits for the running COPYs, some thousand rows; cancels only what does not end.

    The driver leaves a COPY open that is cancelled just as it begins, and then accepts no rollback.
    """
    if not sending:
        return
    _, late = await asyncio.wait(sending, timeout=PATIENCE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)  # each error is raised elsewhere
