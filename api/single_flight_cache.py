"""Values that may be a little old, each looked up once however many ask at the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(slots=True)
class _Entry(Generic[Value]):
    task: "asyncio.Task[Value]"
    until: float


class SingleFlightCache(Generic[Key, Value]):
    """``await fresh(key)`` is what ``look_up(key)`` said no longer than ``for_s`` ago.

    A thousand callers at once cause one look-up. An error is told to those who waited and not kept.
    """

    def __init__(
        self,
        look_up: Callable[[Key], Awaitable[Value]],
        *,
        for_s: float,
        most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._for_s = for_s
        self._most = most
        self._clock = clock
        self._entries: dict[Key, _Entry[Value]] = {}

    async def __call__(self, key: Key) -> Value:
        """The value of ``key``. Raises what ``look_up`` raises."""
        entry = self._entries.get(key)
        if entry is None or (entry.task.done() and self._clock() >= entry.until):
            entry = self._begin(key)
        if entry.task.done():
            return entry.task.result()
        # Shielded: the others wait on, although this one has gone away.
        return await asyncio.shield(entry.task)

    def __contains__(self, key: Key) -> bool:
        """Whether somebody asked for ``key`` lately."""
        return key in self._entries

    def forget(self, key: Key) -> None:
        """What was known of ``key`` has changed."""
        self._entries.pop(key, None)

    def _begin(self, key: Key) -> _Entry[Value]:
        if len(self._entries) >= self._most:
            self._drop_old()
        entry = _Entry(asyncio.ensure_future(self._run(key)), float("inf"))
        self._entries[key] = entry
        entry.task.add_done_callback(lambda task: self._ended(key, entry))
        return entry

    async def _run(self, key: Key) -> Value:
        return await self._look_up(key)

    def _ended(self, key: Key, entry: _Entry[Value]) -> None:
        entry.until = self._clock() + self._for_s
        failed = entry.task.cancelled() or entry.task.exception() is not None
        if failed and self._entries.get(key) is entry:
            del self._entries[key]

    def _drop_old(self) -> None:
        now = self._clock()
        self._entries = {key: entry for key, entry in self._entries.items() if entry.until > now}
        while len(self._entries) >= self._most:
            self._entries.pop(next(iter(self._entries)))
