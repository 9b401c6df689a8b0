"""Waits for the answers of chat completions. One statement at a time looks for all of them."""

import asyncio
from typing import Final

from db.api_batches import ApiBatches

_FIRST_POLL_S: Final = 0.02
_LONGEST_POLL_S: Final = 0.25
_BACKOFF: Final = 1.3


class CompletionWaiter:
    """``await waiter.wait(public_id, …)`` returns once the batch of a completion has ended."""

    def __init__(self, batches: ApiBatches) -> None:
        self._batches = batches
        self._futures: dict[str, list[asyncio.Future[int]]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._poll_s = _FIRST_POLL_S

    async def wait(self, public_id: str, *, timeout_s: float) -> int:
        """Return the batch's id in the ledger once its query has ended or is held permanently.

        Raises TimeoutError, or the error of the statement.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(public_id, []).append(future)
        self._poll_s = _FIRST_POLL_S
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            others = [other for other in self._futures.get(public_id, []) if other is not future]
            if others:
                self._futures[public_id] = others
            else:
                self._futures.pop(public_id, None)

    async def _poll(self) -> None:
        """Poll while requests wait. A new one makes the polls frequent again."""
        try:
            while self._futures:
                await asyncio.sleep(self._poll_s)
                self._poll_s = min(self._poll_s * _BACKOFF, _LONGEST_POLL_S)
                for public_id, batch_id in (await self._batches.ended_chats(list(self._futures))).items():
                    for future in self._futures.pop(public_id, []):
                        if not future.done():
                            future.set_result(batch_id)
        except Exception as error:
            for future in [future for futures in self._futures.values() for future in futures]:
                if not future.done():
                    future.set_exception(error)
            self._futures.clear()
