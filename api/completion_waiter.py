"""Waits for the answers of chat completions: one statement at a time looks for all that are waited for."""

import asyncio
from typing import Final

from db.api_batches import ApiBatches

_FIRST_LOOK_S: Final = 0.02
_LAST_LOOK_S: Final = 0.25
_SLOWER: Final = 1.3


class CompletionWaiter:
    """``await answers.of(public id)`` returns once the batch of one has ended."""

    def __init__(self, batches: ApiBatches) -> None:
        self._batches = batches
        self._waiting: dict[str, list[asyncio.Future[int]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._wait_s = _FIRST_LOOK_S

    async def of(self, public_id: str, *, timeout_s: float) -> int:
        """The batch id, once its query has ended or is held for good.

        Raises TimeoutError, or what looking raised.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(public_id, []).append(future)
        self._wait_s = _FIRST_LOOK_S
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            left = [one for one in self._waiting.get(public_id, []) if one is not future]
            if left:
                self._waiting[public_id] = left
            else:
                self._waiting.pop(public_id, None)

    async def _look(self) -> None:
        """Looks as long as anybody waits; often at first, then less so, and often again when somebody comes."""
        try:
            while self._waiting:
                await asyncio.sleep(self._wait_s)
                self._wait_s = min(self._wait_s * _SLOWER, _LAST_LOOK_S)
                for public_id, batch_id in (await self._batches.ended_chats(list(self._waiting))).items():
                    for future in self._waiting.pop(public_id, []):
                        if not future.done():
                            future.set_result(batch_id)
        except Exception as error:
            for future in [one for waiting in self._waiting.values() for one in waiting]:
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()
