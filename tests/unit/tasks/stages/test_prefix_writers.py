"""Of prompts that begin alike one goes first; the others wait for its answer, and for nothing else."""

import asyncio
from collections import deque
from dataclasses import replace

import pytest

from db.ledger_types import QueuedQuery
from routing.fleet import CachedBy, Fleet, Model, PromptCaching, Tier
from routing.outcome import Completion, Usage
from routing.price import Price
from tasks.stages.prefix_leases import PrefixLeases
from tasks.stages.prefix_writers import PrefixWriters

PRICE = Price(3.0, 15.0, 0.3, "test", cache_write_usd_per_mtok=3.75)
LONG = "duty " * 1000
MODEL = Model("m", "p", "m", "large", PRICE, 200_000, prompt_caching=PromptCaching(CachedBy.CACHE_CONTROL))


def fleet(model: Model = MODEL) -> Fleet:
    return Fleet("f", True, {}, {"m": model}, {"large": Tier("large", "large", 4, ("m",), None)})


def queued(query_id: int, system: str = LONG) -> QueuedQuery:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": str(query_id)}]
    return QueuedQuery(query_id, 1, 0, 0, "large", None, 0, 0, f"q-{query_id}", {"messages": messages}, {})


def answer(*, cached: int = 0, written: int = 0) -> Completion:
    usage = Usage(1260, 1, cached_tokens=cached, cache_write_tokens=written)
    return Completion("yes", "stop", usage, {}, 1.0, "m")


class Play:
    """Writers on a clock that stands still unless it is moved."""

    def __init__(self, waiting: list[QueuedQuery], model: Model = MODEL) -> None:
        self.now = 1000.0
        self.writers = PrefixWriters(
            fleet(model), PrefixLeases(None, key_prefix="", spawn=pytest.fail), clock=lambda: self.now
        )
        self.unclaimed = deque(waiting)
        self.writers.add("large", waiting)
        self.stopping = asyncio.Event()

    async def next(self) -> int | None:
        """The query that goes now; None where all must wait."""
        try:
            async with asyncio.timeout(0.02):
                found = await self.writers.next(self.unclaimed, self.stopping)
        except TimeoutError:
            return None
        return None if found is None else found.id


def test_readers_wait_for_the_answer_of_the_writer_and_read_what_it_wrote() -> None:
    async def story() -> None:
        play = Play([queued(1), queued(2), queued(9, "short"), queued(3)])
        assert [await play.next(), await play.next(), await play.next()] == [1, 9, None]
        assert play.writers.marks(1, MODEL)
        assert not play.writers.marks(1, MODEL), "its hedge does not write once more"
        play.writers.returned(1, MODEL, answer(written=1250), marked=True, sent_at=play.now)
        assert [await play.next(), await play.next()] == [2, 3]
        assert play.writers.marks(2, MODEL)
        assert play.writers.warm_at(3) == "m"

    asyncio.run(story())


def test_a_writer_that_ends_without_an_answer_is_followed_by_another_writer() -> None:
    async def story() -> None:
        play = Play([queued(1), queued(2), queued(3)])
        assert [await play.next(), await play.next()] == [1, None]
        play.writers.end(1)
        assert [await play.next(), await play.next()] == [2, None]

    asyncio.run(story())


def test_the_last_one_alone_does_not_write() -> None:
    async def story() -> None:
        play = Play([queued(1), queued(2)])
        assert await play.next() == 1
        play.writers.marks(1, MODEL)
        play.writers.returned(1, MODEL, answer(written=1250), marked=True, sent_at=play.now)
        play.writers.end(1)
        play.now += 299.0
        assert await play.next() == 2
        assert not play.writers.marks(2, MODEL), "what it would read may be gone"

    asyncio.run(story())


@pytest.mark.parametrize("said", [answer(), answer(written=1250)], ids=["not read", "written again"])
def test_where_a_prefix_is_not_read_nothing_is_marked_any_more(said: Completion) -> None:
    async def story() -> None:
        play = Play([queued(1), queued(2), queued(3)])
        assert await play.next() == 1
        play.writers.marks(1, MODEL)
        play.writers.returned(1, MODEL, answer(written=1250), marked=True, sent_at=play.now)
        play.now += 1.0
        assert await play.next() == 2
        assert play.writers.marks(2, MODEL)
        play.writers.returned(2, MODEL, said, marked=True, sent_at=play.now)
        assert await play.next() == 3
        assert not play.writers.marks(3, MODEL)

    asyncio.run(story())


def test_nobody_waits_where_the_fleet_allows_no_cache_or_it_does_not_pay() -> None:
    async def story() -> None:
        for model in (
            replace(MODEL, prompt_caching=None),
            replace(MODEL, price=replace(PRICE, cached_input_usd_per_mtok=3.0)),
        ):
            play = Play([queued(1), queued(2), queued(3)], model)
            assert [await play.next() for _ in range(3)] == [1, 2, 3]
            assert not play.writers.marks(1, model)

    asyncio.run(story())


def test_a_stop_ends_the_wait() -> None:
    async def story() -> None:
        play = Play([queued(1), queued(2)])
        assert await play.next() == 1
        play.stopping.set()
        assert await play.writers.next(play.unclaimed, play.stopping) is None

    asyncio.run(story())
