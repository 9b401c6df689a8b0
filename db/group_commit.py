"""Many small writes as one: items that arrive while a statement runs go into the next one.

A commit costs about as much for one row as for two hundred. No item waits for a full group: a group is what arrived
within ``gather_s`` or while the last statement was running.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from db.statement_errors import StatementFailed

GROUP_BYTES: Final = 16 * 1024**2
"""Maximum bytes in one group, by `weigh`. A statement has several copies of them in memory, and Postgres more."""

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Key, Result]):
    """Collects items and hands them to ``write`` in groups. No two items of a group have the same key.

    ``write`` gets a list of items and returns results by ``key(item)``; an item without a result gets None. An item
    that Postgres rejects, or that cannot be encoded, fails alone: the items of its group are written one by one.
    ``weigh`` gives the bytes of an item that is large; 0 of any other.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Mapping[Key, Result]]],
        *,
        key: Callable[[Item], Key],
        weigh: Callable[[Item], int] | None = None,
        gather_s: float = 0.005,
        most: int = 400,
        writers: int = 1,
    ) -> None:
        self._write = write
        self._key = key
        self._weigh = weigh
        self._gather_s = gather_s
        self._most = most
        self._writers = writers
        self._waiting: list[tuple[Item, asyncio.Future[Result | None]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Item) -> Result | None:
        """Writes ``item`` with its group; returns its result, or None if there is none.

        Raises what ``write`` raised for this item.
        """
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._running) < self._writers:
            task = asyncio.create_task(self._drain())
            self._running.add(task)
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._gather_s)
                group = self._take()
                if group:
                    await self._settle(group)
        finally:
            # In the same step that found nothing waiting: an item that arrives between that step and the callbacks of
            # the task would see a writer that no longer writes, and wait for ever.
            if (task := asyncio.current_task()) is not None:
                self._running.discard(task)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result | None]]]:
        """The next group: the first item per key, so that each result belongs to one item, of `GROUP_BYTES` at most."""
        group: dict[Key, tuple[Item, asyncio.Future[Result | None]]] = {}
        left = []
        size = 0
        for entry in self._waiting:
            key = self._key(entry[0])
            own = self._weigh(entry[0]) if self._weigh is not None else 0
            if key in group or len(group) == self._most or (group and size + own > GROUP_BYTES):
                left.append(entry)
            else:
                group[key] = entry
                size += own
        self._waiting = left
        return list(group.values())

    async def _settle(self, group: list[tuple[Item, asyncio.Future[Result | None]]]) -> None:
        try:
            results = await self._write([item for item, _ in group])
        except (StatementFailed, TypeError, ValueError) as error:  # the latter two: it cannot be encoded as JSON
            if len(group) == 1 or (isinstance(error, StatementFailed) and error.is_unavailable):
                _fail(group, error)
                return
            for entry in group:
                await self._settle([entry])
        except BaseException as error:
            _fail(group, error)
            if not isinstance(error, Exception):
                raise
        else:
            for item, future in group:
                if not future.done():
                    future.set_result(results.get(self._key(item)))


def _fail(group: Sequence[tuple[Item, asyncio.Future[Result | None]]], error: BaseException) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
