"""However many ask, one look-up; and never older than promised."""

import asyncio

import pytest

from api.single_flight_cache import SingleFlightCache


def test_a_thousand_at_once_cause_one_look_up() -> None:
    asked: list[str] = []

    async def look_up(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(0)
        return key.upper()

    async def story() -> None:
        fresh = SingleFlightCache(look_up, for_s=1.0)
        assert set(await asyncio.gather(*(fresh("a") for _ in range(1000)))) == {"A"}
        assert asked == ["a"]

    asyncio.run(story())


def test_what_is_too_old_or_forgotten_is_looked_up_again() -> None:
    now, asked = [0.0], []

    async def look_up(key: str) -> int:
        asked.append(key)
        return len(asked)

    async def story() -> None:
        fresh = SingleFlightCache(look_up, for_s=1.0, clock=lambda: now[0])
        assert await fresh("a") == 1
        now[0] = 0.9
        assert await fresh("a") == 1
        now[0] = 1.0
        assert await fresh("a") == 2
        fresh.forget("a")
        assert await fresh("a") == 3

    asyncio.run(story())


def test_what_was_asked_for_is_in_it_however_old_and_what_is_forgotten_is_not() -> None:
    now = [0.0]

    async def look_up(key: str) -> str:
        return key

    async def story() -> None:
        fresh = SingleFlightCache(look_up, for_s=1.0, clock=lambda: now[0])
        assert "a" not in fresh
        asking = asyncio.create_task(fresh("a"))
        await asyncio.sleep(0)
        assert "a" in fresh
        await asking
        now[0] = 60.0
        assert "a" in fresh
        fresh.forget("a")
        assert "a" not in fresh

    asyncio.run(story())


def test_an_error_is_told_to_those_who_wait_and_not_kept() -> None:
    failures = [ValueError("once")]

    async def look_up(key: str) -> str:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return key

    async def story() -> None:
        fresh = SingleFlightCache(look_up, for_s=1.0)
        told = await asyncio.gather(fresh("a"), fresh("a"), return_exceptions=True)
        assert [type(one) for one in told] == [ValueError, ValueError]
        assert await fresh("a") == "a"

    asyncio.run(story())


def test_one_who_goes_away_takes_nothing_from_the_others() -> None:
    gate = asyncio.Event()

    async def look_up(key: str) -> str:
        await gate.wait()
        return key

    async def story() -> None:
        fresh = SingleFlightCache(look_up, for_s=1.0)
        first, second = asyncio.create_task(fresh("a")), asyncio.create_task(fresh("a"))
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert await second == "a"
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(story())


def test_it_remembers_no_more_than_it_may() -> None:
    async def look_up(key: int) -> int:
        return key

    async def story() -> None:
        fresh = SingleFlightCache(look_up, for_s=60.0, most=10)
        for key in range(50):
            assert await fresh(key) == key
        assert len(fresh._entries) <= 10

    asyncio.run(story())
