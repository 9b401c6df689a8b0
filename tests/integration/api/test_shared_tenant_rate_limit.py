"""A tenant's requests per minute over several processes of the service, in a real Redis, and without one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from api.tenant_rate_limit import TenantRateLimit
from redis_client import connect
from workers.embedded.redis import start_redis

pytestmark = pytest.mark.usefixtures("patient")

Story = Callable[[list[TenantRateLimit]], Awaitable[None]]


def with_processes(url: str | None, count: int, story: Story, *, clock: Callable[[], float] | None = None) -> None:
    """Runs ``story`` with the limits of so many processes."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            rates = []
            for number in range(count):
                redis = await stack.enter_async_context(connect(url)) if url else None
                more = {} if clock is None else {"clock": clock}
                rates.append(TenantRateLimit(redis, prefix="test:", process=f"p{number}", **more))
            await story(rates)

    asyncio.run(run())


async def granted(rate: TenantRateLimit, times: int, *, per_min: int, tenant: str = "a") -> int:
    waits = await asyncio.gather(*(rate.take(tenant, per_min=per_min) for _ in range(times)))
    return sum(wait == 0 for wait in waits)


def test_all_processes_share_a_tenants_limit(redis_url: str) -> None:
    async def story(rates: list[TenantRateLimit]) -> None:
        # A bucket of 30 at the pace of one in 0.2 s: ask for more than that, from everywhere at once.
        began = time.monotonic()
        taken = await asyncio.gather(*(granted(rate, 40, per_min=300) for rate in rates))
        assert 30 <= sum(taken) <= 31 + (time.monotonic() - began) / 0.2
        assert await granted(rates[0], 1, per_min=300, tenant="b") == 1
        while not (wait_s := await rates[1].take("a", per_min=300)):
            pass  # it took so long that another one was due
        assert 0 < wait_s <= 0.21
        await asyncio.sleep(wait_s + 0.01)
        assert await rates[2].take("a", per_min=300) == 0

    with_processes(redis_url, 3, story)


def test_a_limit_that_is_changed_holds_at_once(redis_url: str) -> None:
    async def story(rates: list[TenantRateLimit]) -> None:
        assert await granted(rates[0], 9, per_min=10) == 1
        assert await granted(rates[0], 900, per_min=6000) >= 500
        assert await granted(rates[0], 9, per_min=10) <= 1

    with_processes(redis_url, 1, story)


def test_without_a_limit_nothing_is_asked() -> None:
    async def story(rates: list[TenantRateLimit]) -> None:
        assert all([await rates[0].take("a", per_min=None) == 0 for _ in range(1000)])

    with_processes("redis://127.0.0.1:1/0", 1, story)


def test_without_redis_a_process_keeps_the_limit_alone() -> None:
    async def story(rates: list[TenantRateLimit]) -> None:
        assert await granted(rates[0], 40, per_min=200) == 20

    with_processes(None, 1, story, clock=lambda: 0.0)


def test_while_redis_is_away_each_process_keeps_to_its_share(tmp_path_factory: pytest.TempPathFactory) -> None:
    now = [0.0]

    async def story(rates: list[TenantRateLimit]) -> None:
        for rate in [*rates, rates[0]]:
            await granted(rate, 1, per_min=240)
        server.stop()
        assert await granted(rates[0], 40, per_min=240) == 12
        assert 0 < await rates[0].take("a", per_min=240) <= 0.51

    home = tmp_path_factory.mktemp("redis")
    server = start_redis(home)
    try:
        with_processes(server.url, 2, story, clock=lambda: now[0])
    finally:
        server.stop()


def test_when_redis_is_back_the_limit_is_everybodys_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    now = [0.0]

    async def story(rates: list[TenantRateLimit]) -> None:
        server.stop()
        assert await granted(rates[0], 40, per_min=240) == 24
        again = start_redis(home)
        try:
            now[0] = 6.0
            assert sum([await granted(rate, 40, per_min=240) for rate in rates]) <= 28
            assert rates[0]._processes == 1
            assert rates[1]._processes == 2
        finally:
            again.stop()

    home = tmp_path_factory.mktemp("redis")
    server = start_redis(home)
    try:
        with_processes(server.url, 2, story, clock=lambda: now[0])
    finally:
        server.stop()


def test_many_tenants_at_once_are_each_held_to_their_own_limit(redis_url: str) -> None:
    async def story(rates: list[TenantRateLimit]) -> None:
        limits = [10, 20] * 225  # of more tenants than are asked about in one question
        asked = (granted(rates[0], 3, per_min=limit, tenant=f"t{place}") for place, limit in enumerate(limits))
        assert await asyncio.gather(*asked) == [1, 2] * 225

    with_processes(redis_url, 1, story)
