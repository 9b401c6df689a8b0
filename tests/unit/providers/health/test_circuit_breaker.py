"""When a breaker opens, and what its probe decides."""

import asyncio

import pytest

from providers.health.circuit_breaker import (
    Breaker,
    BreakerTransition,
    CircuitState,
    Health,
    Recent,
    after_probe,
    counts_in_a_row,
    health_of,
    is_slow,
    trip,
)
from providers.health.local_health import LocalHealth, OutcomeCounts
from providers.health.monitor import HealthMonitor
from routing.outcome import Completion, Failure, FailureKind, Outcome, Usage

CLOSED, OPEN, HALF_OPEN = Breaker(), Breaker(3.0, 1, 1), Breaker(0.0, 1, 1)


@pytest.mark.parametrize(
    ("recent", "reason"),
    [
        (Recent(9, 9, 0), None),  # too few to tell
        (Recent(10, 5, 0), "failures"),
        (Recent(100, 49, 0), None),
        (Recent(100, 50, 0), "failures"),
        (Recent(20, 0, 3), None),  # 15 %, but only three
        (Recent(100, 0, 8), "slowness"),
        (Recent(160, 0, 8), None),  # 5 %: the p95 is just what it was
        (Recent(1000, 0, 51), "slowness"),
        (Recent(290, 9, 0, 9), None),
        (Recent(290, 10, 0, 10), "failures"),
        (Recent(2, 2, 0, 10), "failures"),  # a trickle
    ],
)
def test_a_closed_breaker_opens_on_failures_or_on_slowness(recent: Recent, reason: str | None) -> None:
    move = trip(CLOSED, recent)
    assert (move and move.reason) == reason


@pytest.mark.parametrize("breaker", [OPEN, HALF_OPEN])
def test_an_open_breaker_does_not_open_again_by_old_figures(breaker: Breaker) -> None:
    assert trip(breaker, Recent(100, 100, 0)) is None


def test_a_breaker_is_closed_open_or_half_open() -> None:
    assert [each.circuit for each in (CLOSED, OPEN, HALF_OPEN)] == [
        CircuitState.CLOSED,
        CircuitState.OPEN,
        CircuitState.HALF_OPEN,
    ]


def test_each_opening_in_a_row_lasts_twice_as_long_up_to_a_minute() -> None:
    rests = []
    breaker = CLOSED
    for _ in range(6):
        move = trip(Breaker(streak=breaker.streak), Recent(10, 10, 0))
        assert move is not None
        rests.append(move.probe_in_s)
        breaker = Breaker(move.probe_in_s, move.streak)
    assert rests == [5, 10, 20, 40, 60, 60]


def test_a_good_probe_closes_and_a_bad_one_opens_for_longer() -> None:
    assert after_probe(HALF_OPEN, Health.WELL, is_slow=False) == BreakerTransition(None, 0, reason="probe")
    again = after_probe(HALF_OPEN, Health.FAILED, is_slow=False)
    assert again is not None
    assert again.probe_in_s == 10


def test_a_slow_probe_opens_for_longer_but_gets_used_to_it() -> None:
    move = after_probe(HALF_OPEN, Health.WELL, is_slow=True)
    assert move is not None
    assert move.probe_in_s == 10
    assert move.baseline_factor == 2


def test_a_probe_that_says_nothing_decides_nothing() -> None:
    assert after_probe(HALF_OPEN, Health.SILENT, is_slow=False) is None


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "health"),
    [
        (FailureKind.NEVER_SENT, None, Health.FAILED),
        (FailureKind.SERVER_ERROR, None, Health.FAILED),
        (FailureKind.OVERLOADED, 3.0, Health.FAILED),
        (FailureKind.UNKNOWN, None, Health.FAILED),
        (FailureKind.BROKEN_BODY, None, Health.FAILED),
        (FailureKind.NOT_FOUND, None, Health.FAILED),
        (FailureKind.RATE_LIMITED, None, Health.SILENT),
        (FailureKind.RATE_LIMITED, 3.0, Health.SILENT),
        (FailureKind.AUTH, None, Health.SILENT),
        (FailureKind.INEXPRESSIBLE, None, Health.SILENT),
        (FailureKind.MALFORMED, None, Health.WELL),
        (FailureKind.SAFETY, None, Health.WELL),
    ],
)
def test_a_failure_says_something_of_the_deployment_or_not(
    kind: FailureKind, retry_after_s: float | None, health: Health
) -> None:
    assert health_of(Failure(kind, "", retry_after_s=retry_after_s)) is health


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (Failure(FailureKind.UNKNOWN, "", cause="connection_closed"), True),
        (Failure(FailureKind.UNKNOWN, "", cause="deadline"), False),  # the answer may just be long
        (Failure(FailureKind.NEVER_SENT, ""), True),
        (Failure(FailureKind.SERVER_ERROR, "", status=500), True),
        (Failure(FailureKind.OVERLOADED, "", status=503), True),
        (Failure(FailureKind.OVERLOADED, "", status=529), False),
        (Failure(FailureKind.RATE_LIMITED, "", status=429), False),
        (Failure(FailureKind.MALFORMED, "", status=400), False),
        (Failure(FailureKind.TOO_LARGE, "", status=413), False),
        (Failure(FailureKind.NOT_FOUND, "", status=404), False),
        (Completion("", "stop", Usage(), {}, 1.0, "m"), False),
        (None, False),
    ],
)
def test_a_row_is_of_failures_of_the_connection_or_the_server(outcome: Outcome | None, counts: bool) -> None:
    assert counts_in_a_row(outcome) is counts


def test_a_call_that_went_well_ends_the_row_of_all_workers_and_an_old_row_does_not_fade() -> None:
    clock = Clock()
    book = LocalHealth(["a"], clock)
    row = OutcomeCounts(calls=4, failed=4, failed_in_a_row=4)
    asyncio.run(book.tell({"a": row}))
    clock.now += 60
    reading = asyncio.run(book.tell({"a": row})).readings["a"]
    assert reading.recent.failed_in_a_row == 8
    mixed = OutcomeCounts(calls=9, failed=8, failed_in_a_row=2)
    assert asyncio.run(book.tell({"a": mixed})).readings["a"].recent.failed_in_a_row == 2
    assert asyncio.run(book.move("a", BreakerTransition(5.0, 1), version=0))
    assert asyncio.run(book.tell({})).readings["a"].recent == Recent()


def test_a_completion_is_well_and_nothing_is_silent() -> None:
    assert health_of(Completion("", "stop", Usage(), {}, 1.0, "m")) is Health.WELL
    assert health_of(None) is Health.SILENT


@pytest.mark.parametrize(
    ("latency_ms", "baseline_ms", "slow"),
    [(9000, None, False), (3001, 1000, True), (3000, 1000, False), (1060, 50, True), (1040, 50, False)],
)
def test_slow_is_three_times_the_usual_and_a_second(latency_ms: float, baseline_ms: float | None, slow: bool) -> None:
    assert is_slow(latency_ms, baseline_ms) is slow


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_past_fades_by_half_in_five_seconds() -> None:
    clock = Clock()
    book = LocalHealth(["a"], clock)
    asyncio.run(book.tell({"a": OutcomeCounts(calls=16, failed=8, slow=4)}))
    clock.now += 10
    reading = asyncio.run(book.tell({"a": OutcomeCounts(calls=1)})).readings["a"]
    assert reading.recent == Recent(5.0, 2.0, 1.0)


def test_the_baseline_follows_slowly_and_a_move_scales_it() -> None:
    book = LocalHealth(["a"], Clock())
    asyncio.run(book.tell({"a": OutcomeCounts(p95_ms=100.0)}))
    told = asyncio.run(book.tell({"a": OutcomeCounts(p95_ms=200.0)}))
    assert told.readings["a"].baseline_ms == pytest.approx(105.0)
    assert asyncio.run(book.move("a", BreakerTransition(5.0, 1, baseline_factor=2.0), version=0))
    assert asyncio.run(book.tell({})).readings["a"].baseline_ms == pytest.approx(210.0)


def test_a_move_from_an_old_version_does_nothing() -> None:
    book = LocalHealth(["a"], Clock())
    assert asyncio.run(book.move("a", BreakerTransition(5.0, 1), version=0))
    assert not asyncio.run(book.move("a", BreakerTransition(None, 0), version=0))
    assert asyncio.run(book.tell({})).readings["a"].breaker == Breaker(5.0, 1, 1)


def test_there_is_one_probe_until_its_lease_ends() -> None:
    clock = Clock()
    book = LocalHealth(["a"], clock)
    assert asyncio.run(book.probe("a", lease_s=10))
    assert not asyncio.run(book.probe("a", lease_s=10))
    clock.now += 11
    assert asyncio.run(book.probe("a", lease_s=10))
    asyncio.run(book.end_probe("a"))
    assert asyncio.run(book.probe("a", lease_s=10))


def test_a_probe_that_outlived_its_lease_may_end_while_another_is_asked_for() -> None:
    class Slow(LocalHealth):
        async def probe(self, deployment: str, *, lease_s: float) -> bool:
            await asyncio.sleep(0.01)
            return await LocalHealth.probe(self, deployment, lease_s=lease_s)

    async def story() -> None:
        clock = Clock()
        book = Slow(["a"], clock)
        watch = HealthMonitor(book, None, on_return=lambda: None, clock=clock)
        version = await watch.acquire_probe("a", lease_s=10)
        assert version is not None
        clock.now += 11
        asking = asyncio.create_task(watch.acquire_probe("a", lease_s=10))
        await asyncio.sleep(0)
        await watch.end_probe("a", version, None)
        assert await LocalHealth.probe(book, "a", lease_s=10)  # somebody else is faster
        assert await asking is None

    asyncio.run(story())


def test_a_rest_ends_and_only_ever_gets_longer() -> None:
    clock = Clock()
    book = LocalHealth(["p"], clock)
    asyncio.run(book.rest("p", rest_s=30))
    asyncio.run(book.rest("p", rest_s=3))
    clock.now += 10
    assert asyncio.run(book.tell({})).rests == {"p": 20.0}
    clock.now += 30
    assert asyncio.run(book.tell({})).rests == {"p": 0.0}


def test_another_books_state_is_gone_on_from() -> None:
    clock = Clock()
    shared, book = LocalHealth(["a"], clock), LocalHealth(["a"], clock)
    asyncio.run(shared.move("a", BreakerTransition(5.0, 1), version=0))
    readings = asyncio.run(shared.tell({"a": OutcomeCounts(p95_ms=70.0)})).readings
    clock.now += 2
    book.adopt(readings, age_s=2)
    reading = asyncio.run(book.tell({})).readings["a"]
    assert reading.breaker == Breaker(3.0, 1, 1)
    assert reading.baseline_ms == 70.0
