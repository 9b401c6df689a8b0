"""Work of moments that is not left half done by whoever is told to stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def uninterrupted(work: Coroutine[Any, Any, object]) -> None:
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
