"""Grouped writes: together where they can be, alone where they must be."""

import asyncio
from collections.abc import Sequence

import pytest
from psycopg.errors import DataError, OperationalError
from sqlalchemy.exc import DBAPIError

from db.group_commit import GroupCommit
from db.statement_errors import StatementFailed


def refused(error: type[Exception]) -> StatementFailed:
    return StatementFailed(DBAPIError("a statement", {}, error()))


def test_what_comes_together_is_written_together_and_each_gets_its_own() -> None:
    groups: list[list[int]] = []

    async def write(items: Sequence[int]) -> dict[int, int]:
        groups.append(list(items))
        return {item: item * item for item in items if item != 3}

    async def story() -> list[int | None]:
        grouped = GroupCommit(write, key=lambda item: item)
        return list(await asyncio.gather(*(grouped(n) for n in range(50))))

    results = asyncio.run(story())
    assert results == [None if n == 3 else n * n for n in range(50)]
    assert len(groups) < 5


@pytest.mark.parametrize("flaw", [refused(DataError), TypeError("Recursion limit reached")], ids=["refused", "no JSON"])
def test_a_bad_item_fails_alone(flaw: Exception) -> None:
    async def write(items: Sequence[int]) -> dict[int, int]:
        if 7 in items:
            raise flaw
        return {item: item for item in items}

    async def story() -> list[int | BaseException | None]:
        grouped = GroupCommit(write, key=lambda item: item)
        return list(await asyncio.gather(*(grouped(n) for n in range(10)), return_exceptions=True))

    results = asyncio.run(story())
    assert results[7] is flaw
    assert results[:7] + results[8:] == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_an_outage_fails_the_whole_group_at_once() -> None:
    tries = 0

    async def write(items: Sequence[int]) -> dict[int, int]:
        nonlocal tries
        tries += 1
        raise refused(OperationalError)

    async def story() -> list[int | BaseException | None]:
        grouped = GroupCommit(write, key=lambda item: item)
        return list(await asyncio.gather(*(grouped(n) for n in range(10)), return_exceptions=True))

    results = asyncio.run(story())
    assert all(isinstance(result, StatementFailed) for result in results)
    assert tries <= 2


def test_a_caller_that_is_cancelled_leaves_its_write_standing() -> None:
    async def story() -> list[int]:
        written: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        async def write(items: Sequence[int]) -> dict[int, int]:
            await asyncio.sleep(0.01)
            written.set_result(list(items))
            return {}

        grouped = GroupCommit(write, key=lambda item: item)
        task = asyncio.create_task(grouped(1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(60):
            return await written

    assert asyncio.run(story()) == [1]


def test_two_items_with_one_key_never_share_a_group() -> None:
    groups: list[list[tuple[int, str]]] = []

    async def write(items: Sequence[tuple[int, str]]) -> dict[int, str]:
        groups.append(list(items))
        return {} if len(groups) > 1 else {key: name for key, name in items}

    async def story() -> list[str | None]:
        grouped = GroupCommit(write, key=lambda item: item[0])
        return list(await asyncio.gather(*(grouped(item) for item in [(1, "first"), (1, "second"), (2, "other")])))

    assert asyncio.run(story()) == ["first", None, "other"]
    assert groups == [[(1, "first"), (2, "other")], [(1, "second")]]


def test_an_item_that_comes_as_the_last_group_is_through_is_written_too() -> None:
    async def story() -> tuple[int | None, int | None]:
        through = asyncio.Event()

        async def write(items: Sequence[int]) -> dict[int, int]:
            await through.wait()
            return {item: item for item in items}

        grouped = GroupCommit(write, key=lambda item: item, gather_s=0)

        async def late() -> int | None:
            await through.wait()  # behind the writer: its step has ended, its task is not yet through
            return await grouped(2)

        first = asyncio.create_task(grouped(1))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(late())
        await asyncio.sleep(0.01)
        through.set()
        async with asyncio.timeout(60):
            return await first, await second

    assert asyncio.run(story()) == (1, 2)
