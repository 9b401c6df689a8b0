"""Work in threads of its own."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.ext.asyncio import AsyncEngine

from api.background.isolated_thread import run_in_isolated_thread


def test_long_work_leaves_the_threads_of_the_event_loop_free() -> None:
    async def story() -> None:
        loop, begun, ended = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        async def work(engine: AsyncEngine) -> bool:
            loop.call_soon_threadsafe(begun.set)
            return ended.wait(timeout=10)

        loop.set_default_executor(ThreadPoolExecutor(1))
        working = asyncio.create_task(run_in_isolated_thread(work, database_url="postgresql://127.0.0.1:1/none"))
        try:
            await begun.wait()
            await asyncio.wait_for(asyncio.to_thread(int), timeout=2)
        finally:
            ended.set()
            assert await working

    asyncio.run(story())
