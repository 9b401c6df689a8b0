"""Of all processes that have prompts with one beginning in work, one writes it to the provider's cache."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from redis_client import connect
from tasks.stages import prefix_leases
from tasks.stages.prefix_leases import CachedPrefix, PrefixLeases
from tasks.stages.prefix_writers import PrefixWriters
from tests.unit.tasks.stages.test_prefix_writers import MODEL, answer, fleet, queued

PREFIX = b"\x01\xff"
Written = asyncio.Future[CachedPrefix | None]


class Process:
    """One process' leases; `kill` ends what renews them."""

    def __init__(self, redis: Redis | None) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.leases = PrefixLeases(redis, key_prefix="test:", spawn=self._spawn)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def acquire(self) -> tuple[bool | CachedPrefix, Written]:
        written: Written = asyncio.get_running_loop().create_future()
        return await self.leases.acquire(PREFIX, written), written

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def play(redis_url: str) -> Callable[[Callable[[Process, Process], Awaitable[None]]], None]:
    def run(story: Callable[[Process, Process], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with connect(redis_url) as redis:
                await story(Process(redis), Process(redis))

        asyncio.run(whole())

    return run


Play = Callable[[Callable[[Process, Process], Awaitable[None]]], None]


def test_what_one_process_has_written_the_others_read(play: Play) -> None:
    async def story(one: Process, other: Process) -> None:
        granted, written = await one.acquire()
        assert granted is True
        assert (await other.acquire())[0] is False
        written.set_result(CachedPrefix("m", 240.0))
        await one.tasks[0]
        found, _ = await other.acquire()
        assert isinstance(found, CachedPrefix)
        assert (found.deployment, 239.0 < found.lasts_s <= 240.0) == ("m", True)

    play(story)


def test_a_cache_that_does_not_take_the_prefix_is_not_tried_by_others(play: Play) -> None:
    async def story(one: Process, other: Process) -> None:
        _, written = await one.acquire()
        written.set_result(CachedPrefix(None, 240.0))
        await one.tasks[0]
        found, _ = await other.acquire()
        assert isinstance(found, CachedPrefix)
        assert found.deployment is None

    play(story)


def test_a_writer_without_an_answer_leaves_it_to_another_at_once(play: Play) -> None:
    async def story(one: Process, other: Process) -> None:
        _, written = await one.acquire()
        written.set_result(None)
        await one.tasks[0]
        granted, written = await other.acquire()
        assert granted is True
        written.set_result(None)
        await other.tasks[0]

    play(story)


def test_a_living_writer_keeps_its_lease_and_a_killed_one_loses_it(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_leases, "LEASE_S", 1.0)

    async def story(one: Process, other: Process) -> None:
        await one.acquire()
        await asyncio.sleep(1.5)
        assert (await other.acquire())[0] is False
        await one.kill()
        await asyncio.sleep(1.1)
        granted, written = await other.acquire()
        assert granted is True
        written.set_result(None)
        await other.tasks[0]

    play(story)


def test_a_writer_whose_call_hangs_holds_up_no_other_process(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_leases, "LEASE_S", 0.5)
    monkeypatch.setattr(prefix_leases, "LONGEST_S", 0.0)

    async def story(one: Process, other: Process) -> None:
        _, hanging = await one.acquire()
        await asyncio.sleep(0.7)
        granted, written = await other.acquire()
        assert granted is True
        for future in (hanging, written):
            future.set_result(None)
        await asyncio.gather(*one.tasks, *other.tasks)

    play(story)


def test_the_readers_of_one_process_wait_for_the_writer_of_another(play: Play) -> None:
    async def story(one: Process, other: Process) -> None:
        processes = [PrefixWriters(fleet(), each.leases) for each in (one, other)]
        batches = [deque(queued(query_id) for query_id in ids) for ids in ((1, 2), (3, 4))]
        for writers, waiting in zip(processes, batches, strict=True):
            writers.add("large", waiting)
        stopping = asyncio.Event()
        first, second = processes
        found = await first.next(batches[0], stopping)
        assert found is not None
        assert first.marks(found.id, MODEL)
        reading = asyncio.ensure_future(second.next(batches[1], stopping))
        await asyncio.sleep(0.3)
        assert not reading.done()
        first.returned(found.id, MODEL, answer(written=1250), marked=True, sent_at=time.monotonic())
        reader = await asyncio.wait_for(reading, 10.0)
        assert reader is not None
        assert (second.warm_at(reader.id), second.marks(reader.id, MODEL)) == ("m", True)

    play(story)


def test_without_redis_each_process_writes() -> None:
    async def story() -> None:
        for redis in (None, connect("redis://127.0.0.1:1/0")):
            process = Process(redis)
            assert [(await process.acquire())[0] for _ in range(2)] == [True, True]
            assert not process.tasks

    asyncio.run(story())
