"""What integration tests share."""

import asyncio

import pytest

from routing.fleet import Fleet
from tests.integration.bench import OnBench, Story, opened


@pytest.fixture
def on_bench(database_url: str, shipped_fleet: Fleet) -> OnBench:
    """Runs a coroutine function with a bench."""

    def run(story: Story) -> None:
        async def play() -> None:
            async with opened(database_url, shipped_fleet) as bench:
                await story(bench)

        asyncio.run(play())

    return run
