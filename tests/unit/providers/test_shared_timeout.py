"""One timer ends each block at its own time, and a block's own cancellation stays one."""

import asyncio
import time

import pytest

from providers.shared_timeout import SharedTimeout

LIMIT_S = 0.1


def test_each_block_is_ended_after_its_own_limit_and_a_shorter_one_is_not() -> None:
    async def took(shared: SharedTimeout, *, after_s: float, needs_s: float) -> float | None:
        await asyncio.sleep(after_s)
        began = time.monotonic()
        try:
            async with shared.block():
                await asyncio.sleep(needs_s)
        except TimeoutError:
            return time.monotonic() - began
        return None

    async def story() -> None:
        shared = SharedTimeout(LIMIT_S)
        found = await asyncio.gather(
            *(took(shared, after_s=0.02 * number, needs_s=0.0 if number % 2 else 30.0) for number in range(10))
        )
        assert [each is None for each in found] == [False, True] * 5
        assert all(each + 0.005 >= LIMIT_S for each in found if each is not None)
        assert await took(shared, after_s=2 * LIMIT_S, needs_s=30.0) is not None  # also once none was left

    asyncio.run(asyncio.wait_for(story(), timeout=10))


def test_a_cancelled_block_is_cancelled_and_no_more_watched() -> None:
    async def story() -> None:
        shared = SharedTimeout(LIMIT_S)

        async def endless() -> None:
            async with shared.block():
                await asyncio.Event().wait()

        task = asyncio.create_task(endless())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with shared.block():
                await asyncio.Event().wait()

    asyncio.run(asyncio.wait_for(story(), timeout=10))
