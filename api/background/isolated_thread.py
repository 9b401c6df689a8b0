"""Runs CPU-heavy work outside the event loop: in a thread with a loop and connections of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from api.malloc_tuning import trim_heap
from db.engine import make_engine

Value = TypeVar("Value")


async def run_in_isolated_thread(work: Callable[[AsyncEngine], Awaitable[Value]], *, database_url: str) -> Value:
    """The result of ``work``, called with an engine that is closed afterwards. Raises what it raises."""

    async def with_engine() -> Value:
        engine = make_engine(database_url, pool_size=2)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return await asyncio.to_thread(lambda: asyncio.run(with_engine()))
    finally:
        trim_heap()
