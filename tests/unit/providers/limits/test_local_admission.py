"""The gate of a single process, without Redis, on a clock of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import pytest

from providers.health.circuit_breaker import FAILED_IN_A_ROW, CircuitState
from providers.limits.admission_control import GRANT_TTL_S, AdmissionController, Denied, Grant
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Completion, Failure, FailureKind, Outcome, Usage
from routing.price import Price

T = TypeVar("T")

WELL = Completion("four", "stop", Usage(50, 50), {}, 100.0, "m")
SLOW = WELL._replace(latency_ms=5000.0)
DEAD = Failure(FailureKind.NEVER_SENT, "refused")
CLOSED = Failure(FailureKind.UNKNOWN, "closed", cause="connection_closed")
OVERLOADED = Failure(FailureKind.OVERLOADED, "529", status=529)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A gate with one deployment, ``a``."""

    def __init__(self, *, concurrency: int = 20, **limits: Any) -> None:
        self.clock = Clock()
        self.model = Model("a", "one", "m", "small", Price(1, 1, 1, "t"), 8000, **limits)
        self.fleet = Fleet(
            "test",
            True,
            {"one": Provider("one", Protocol.OPENAI, "http://one.test")},
            {"a": self.model},
            {"small": Tier("small", "small", concurrency, ("a",), None)},
        )
        self.gate = AdmissionController(None, fleet=self.fleet, worker="w", clock=self.clock)

    async def reserve(self) -> Grant | Denied:
        return await self.gate.reserve(self.model, tokens=100)

    async def call(self, outcome: Outcome | None, *, times: int = 1, every_s: float = 0.0) -> int:
        """Calls that end in ``outcome``; how many were let through."""
        through = 0
        for _ in range(times):
            grant = await self.reserve()
            if isinstance(grant, Grant):
                through += 1
                await self.gate.settle(grant, outcome=outcome)
            self.clock.now += every_s
        return through

    async def rest_s(self) -> float:
        self.clock.now += 0.25  # what is read of the state is so old at most
        return (await self.gate.resting([self.model])).get("a", 0.0)


def run(story: Callable[[], Awaitable[T]]) -> T:
    async def told() -> T:
        return await story()

    return asyncio.run(told())


def test_a_model_without_limits_is_always_granted() -> None:
    async def story() -> None:
        bench = Bench()
        assert await bench.call(WELL, times=500, every_s=0.01) == 500
        assert await bench.rest_s() == 0

    run(story)


def test_failures_open_a_probe_decides_and_success_closes() -> None:
    async def story() -> None:
        bench = Bench()
        assert await bench.call(DEAD, times=30) == FAILED_IN_A_ROW
        assert await bench.rest_s() == pytest.approx(4.75)
        assert isinstance(await bench.reserve(), Denied)
        bench.clock.now += 5.0
        assert await bench.rest_s() == 0
        assert bench.gate.circuits() == {"a": CircuitState.HALF_OPEN}
        probe = await bench.reserve()
        assert isinstance(probe, Grant)
        assert isinstance(await bench.reserve(), Denied)  # there is one probe
        await bench.gate.settle(probe, outcome=WELL)
        assert bench.gate.circuits() == {"a": CircuitState.CLOSED}
        assert await bench.call(WELL, times=20) == 20

    run(story)


def test_an_outage_opens_after_a_short_row_of_failures_whatever_went_well_before() -> None:
    async def story() -> None:
        bench = Bench()
        assert await bench.call(WELL, times=2000, every_s=0.025) == 2000
        assert await bench.call(CLOSED, times=200) == FAILED_IN_A_ROW
        assert await bench.rest_s() == pytest.approx(4.75)

    run(story)


def test_a_row_of_failures_does_not_open_for_limits_nor_where_one_call_in_ten_fails() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.call(WELL, times=200, every_s=0.025)
        for _ in range(5 * FAILED_IN_A_ROW):
            await bench.call(Failure(FailureKind.RATE_LIMITED, "429", status=429, retry_after_s=0.1))
            bench.clock.now += 0.5
        assert bench.gate.circuits() == {"a": CircuitState.CLOSED}
        chance = Random(7)
        for _ in range(10_000):
            await bench.call(CLOSED if chance.random() < 0.1 else WELL, every_s=0.025)
        assert bench.gate.circuits() == {"a": CircuitState.CLOSED}

    run(story)


def test_slowness_opens_too_and_a_provider_that_stays_slow_comes_back() -> None:
    async def story() -> None:
        bench = Bench()
        assert bench.gate.usual_s(bench.model) is None
        await bench.call(WELL, times=100, every_s=0.01)
        await bench.rest_s()
        assert bench.gate.usual_s(bench.model) == pytest.approx(0.1)
        await bench.call(SLOW, times=20, every_s=0.01)
        rest_s = await bench.rest_s()
        assert rest_s > 0
        probes = 0
        while bench.gate.circuits()["a"] is not CircuitState.CLOSED:
            left_s = await bench.rest_s()
            bench.clock.now += left_s
            probes += await bench.call(SLOW)
        assert probes == 6  # 0.1 s has to double five times before three times that is more than 5 s
        assert await bench.call(SLOW, times=20, every_s=0.1) == 20

    run(story)


def test_overload_shrinks_what_is_in_flight_and_success_lets_it_grow() -> None:
    async def story() -> None:
        bench = Bench(concurrency=20)
        grants = [await bench.reserve() for _ in range(10)]
        first, *others = (grant for grant in grants if isinstance(grant, Grant))
        await bench.gate.settle(first, outcome=OVERLOADED)
        assert await bench.reserve() == Denied(1.0, "rest")
        bench.clock.now += 1.0
        assert await bench.reserve() == Denied(0.1, "adapting")  # seven may be in flight, nine are
        for grant in others:
            await bench.gate.settle(grant, outcome=WELL)
        held = [await bench.reserve() for _ in range(12)]
        assert sum(isinstance(grant, Grant) for grant in held) == 8  # and one more for a round of good calls

    run(story)


def test_calls_under_way_at_a_limit_make_its_rest_no_longer() -> None:
    async def story() -> None:
        bench = Bench(concurrency=20)
        grants = [await bench.reserve() for _ in range(10)]
        bench.clock.now += 0.1
        for grant in grants:
            assert isinstance(grant, Grant)
            await bench.gate.settle(grant, outcome=OVERLOADED)
        assert 0 < await bench.rest_s() <= 1.0
        bench.clock.now += 1.0
        assert await bench.call(OVERLOADED) == 1
        assert 1.0 < await bench.rest_s() <= 2.0

    run(story)


def test_calls_that_were_cancelled_leave_their_places_when_they_must_be_over() -> None:
    async def story() -> None:
        bench = Bench(concurrency=20)
        grant = await bench.reserve()
        assert isinstance(grant, Grant)
        await bench.gate.settle(grant, outcome=OVERLOADED)  # one may be in flight
        bench.clock.now += 1.0
        assert isinstance(await bench.reserve(), Grant)  # and is never settled
        assert isinstance(await bench.reserve(), Denied)
        bench.clock.now += 151  # the deadline and a margin
        assert isinstance(await bench.reserve(), Grant)

    run(story)


def test_a_grant_is_good_for_less_than_the_second_that_the_window_counts_on() -> None:
    async def story() -> None:
        bench = Bench(requests_per_min=600)
        grant = await bench.reserve()
        assert isinstance(grant, Grant)
        assert bench.gate.is_good(grant)
        bench.clock.now += GRANT_TTL_S
        assert not bench.gate.is_good(grant)
        renewed = await bench.gate.renew(grant)
        assert isinstance(renewed, Grant)
        assert renewed.call != grant.call
        assert await bench.gate.renew(renewed) is renewed

    run(story)


def test_a_grant_that_no_limit_counts_is_good_until_its_deployment_rests() -> None:
    async def story() -> None:
        bench = Bench()
        grant, other = await bench.reserve(), await bench.reserve()
        assert isinstance(grant, Grant)
        assert isinstance(other, Grant)
        bench.clock.now += 60
        assert bench.gate.is_good(grant)
        limited = Failure(FailureKind.RATE_LIMITED, "429", status=429, retry_after_s=12.0)
        await bench.gate.settle(other, outcome=limited)
        assert not bench.gate.is_good(grant)
        assert await bench.gate.renew(grant) == Denied(12.0, "rest")

    run(story)


def test_a_retry_after_is_obeyed_to_its_end() -> None:
    async def story() -> None:
        bench = Bench()
        limited = Failure(FailureKind.RATE_LIMITED, "429", status=429, retry_after_s=12.0)
        await bench.call(limited)
        refused = await bench.reserve()
        assert refused == Denied(12.0, "rest")
        bench.clock.now += 11.99
        assert isinstance(await bench.reserve(), Denied)
        bench.clock.now += 0.01
        assert isinstance(await bench.reserve(), Grant)

    run(story)


def test_without_redis_the_limits_hold_for_this_process() -> None:
    async def story() -> None:
        bench = Bench(requests_per_min=615, max_concurrency=3)
        grants = [await bench.reserve() for _ in range(5)]
        assert sum(isinstance(grant, Grant) for grant in grants) == 3
        for grant in grants:
            if isinstance(grant, Grant):
                await bench.gate.settle(grant, outcome=WELL)
        assert await bench.call(WELL, times=20) in (6, 7)  # ten at once are a second's worth

    run(story)
