"""Rows on their way into Postgres, which writes them while those after them are still being read.

Two tables are filled in turns, for a connection does one COPY at a time: some thousand prompts, then the queries they
belong to. All of it is in the transaction of whoever opened the stream.
"""

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection

from routing.lifecycle import ROUTE, State

QUERIES_PER_TURN: Final = 10_000
"""Of a turn Postgres writes the second half alone, once there is nothing more to read: a tenth of a second at most.
Shorter turns make more round trips, in each of which it waits."""

MOST_AHEAD_BYTES: Final = 4 * 1024**2
"""What may wait for Postgres in this process, beside the piece that is being put."""

PATIENCE_S: Final = 2.0
"""How long a stop waits for what Postgres is at; it may be waiting itself, for a lock."""

_PROMPTS: Final = "COPY prompts (query_id, batch_id, custom_id, line, body, options) FROM STDIN (NULL '')"
_QUERIES: Final = "COPY queries (id, batch_id, stage, state) FROM STDIN"


class Piece(NamedTuple):
    """Some prompts, and the ids of their queries."""

    prompts: bytes
    """Rows as COPY's text format has them."""
    ids: tuple[range, ...]


class _Abandoned(Exception):
    """Whoever fed the stream has failed."""


class Stream:
    """Feed it with `put`, then `finish` or `abandon` it. Nobody else may use ``connection`` until then."""

    def __init__(self, connection: AsyncConnection[Any], *, batch_id: int) -> None:
        self._connection = connection
        self._between = f"\t{batch_id}\t{ROUTE}\t{State.READY}\n".encode()
        self._ahead: deque[Piece] = deque()
        self._bytes_ahead = 0
        self._came = asyncio.Event()
        self._went = asyncio.Event()
        self._ended = self._abandoned = False
        self._sending = asyncio.create_task(self._send())
        self._sending.add_done_callback(lambda _: self._went.set())

    async def put(self, piece: Piece) -> None:
        """Waits while too much is ahead. Raises what Postgres had against this piece or one before it."""
        self._ahead.append(piece)
        self._bytes_ahead += len(piece.prompts)
        self._came.set()
        # What is read is read without a pause: this is where the loop looks whether the socket takes more, and
        # whether Postgres has answered. A look, the wake-up that it causes, and the step after that.
        for _ in range(3):
            await asyncio.sleep(0)
        while self._bytes_ahead > MOST_AHEAD_BYTES and not self._sending.done():
            self._went.clear()
            await self._went.wait()
        if self._sending.done():
            self._sending.result()

    async def finish(self) -> None:
        """All rows are written. Raises what Postgres had against one of them."""
        self._ended = True
        self._came.set()
        # Not awaited itself: being cancelled here must not cancel it, for `abandon` will, and twice would be one too
        # many for the driver, which is busy freeing the connection.
        await asyncio.wait({self._sending})
        self._sending.result()

    async def abandon(self) -> None:
        """The connection is free again; what was written is for a rollback to take back.

        What Postgres is at, some thousand rows, is waited for: cancelled just as a COPY begins, the driver leaves it
        open, and takes no rollback. Only where that does not end is it cancelled all the same.
        """
        self._abandoned = True
        self._came.set()
        if not (await asyncio.wait({self._sending}, timeout=PATIENCE_S))[0]:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        if not self._sending.cancelled():
            self._sending.exception()  # the other one is told

    async def _send(self) -> None:
        async with self._connection.cursor() as cursor:
            while (piece := await self._next()) is not None:
                ids: list[range] = []
                queries = 0
                async with cursor.copy(_PROMPTS) as copy:
                    while piece is not None:
                        await copy.write(piece.prompts)
                        ids += piece.ids
                        queries += sum(map(len, piece.ids))
                        piece = await self._next() if queries < QUERIES_PER_TURN else None
                async with cursor.copy(_QUERIES) as copy:
                    for some in ids:
                        await copy.write(self._between.join([b"%d" % id_ for id_ in some]) + self._between)

    async def _next(self) -> Piece | None:
        while not self._ahead and not self._ended and not self._abandoned:
            self._came.clear()
            await self._came.wait()
        if self._abandoned:
            raise _Abandoned
        if not self._ahead:
            return None
        piece = self._ahead.popleft()
        self._bytes_ahead -= len(piece.prompts)
        self._went.set()
        return piece
