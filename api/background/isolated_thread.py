"""Work that takes seconds of a processor, beside the event loop: in a thread with a loop and connections of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from api.malloc_tuning import give_back
from db.engine import make_engine

Value = TypeVar("Value")


async def run_in_isolated_thread(work: Callable[[AsyncEngine], Awaitable[Value]], *, database_url: str) -> Value:
    """What ``work`` makes of an engine that is there for as long as it takes. Raises what it raises."""

    async def opened() -> Value:
        engine = make_engine(database_url, pool_size=2)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return await asyncio.to_thread(lambda: asyncio.run(opened()))
    finally:
        give_back()
