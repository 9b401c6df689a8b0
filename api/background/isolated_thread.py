"""Runs CPU-heavy work outside the event loop: in a thread with its own loop and connections."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from api.malloc_tuning import trim_heap
from db.engine import make_engine

Value = TypeVar("Value")

_THREADS: Final = ThreadPoolExecutor(max_workers=8, thread_name_prefix="isolated")
"""A separate pool from the event loop's, which also resolves names: on two cores it has six threads, and a file takes
one for minutes."""


async def run_in_isolated_thread(work: Callable[[AsyncEngine], Awaitable[Value]], *, database_url: str) -> Value:
    """Return the result of ``work``, which is called with an engine that is closed afterwards. Raises what ``work``
    raises."""

    async def with_engine() -> Value:
        engine = make_engine(database_url, pool_size=2)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: asyncio.run(with_engine()))
    finally:
        trim_heap()
