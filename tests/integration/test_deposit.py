"""Deposits into Postgres, many at a time."""

import asyncio

from tests.integration.bench import Bench, OnBench

MANY = 24
"""More than the engine has connections, and each deposit needs two."""


def test_more_deposits_at_once_than_connections_all_come_through(on_bench: OnBench) -> None:
    async def story(bench: Bench) -> None:
        async with asyncio.timeout(50):  # less than the pool's own patience
            batches = await asyncio.gather(*(bench.submit(3) for _ in range(MANY)))
        assert [len(ids) for ids in batches] == [3] * MANY

    on_bench(story)
