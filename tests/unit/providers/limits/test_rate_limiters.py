"""A process's own share of the limits, and its adaptive concurrency, on a clock of their own."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.limits.adaptive_concurrency import OVERLOAD_CUT, AdaptiveConcurrency
from providers.limits.local_rate_limiter import Denied, Granted, LocalLimit
from routing.fleet import Model, Price


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def limit(clock: Clock, **limits: Any) -> LocalLimit:
    return LocalLimit(Model("a", "p", "m", "small", Price(1, 1, 1, "t"), 8000, **limits), clock=clock)


def saturate(gate: LocalLimit, clock: Clock, *, seconds: float, workers: int = 1, tokens: int = 10) -> list[float]:
    """When calls are granted if one is always waiting."""
    granted, until = [], clock.now + seconds
    while clock.now < until:
        match gate.take(tokens, workers=workers, in_flight=0):
            case Granted():
                granted.append(clock.now)
            case Denied(wait_s=wait_s):
                assert wait_s > 0
                clock.now += wait_s + 1e-6
    return granted


def most_within(times: list[float], window_s: float) -> int:
    return max(sum(start < at <= start + window_s for at in times) for start in [times[0] - 1e-9, *times])


@pytest.mark.parametrize("per_min", [3, 10, 59, 600])
def test_a_saturated_limit_is_used_and_never_broken(per_min: int) -> None:
    clock = Clock()
    granted = saturate(limit(clock, requests_per_min=per_min), clock, seconds=200)
    assert most_within(granted, 61.0) <= per_min
    assert len(granted) >= 0.95 * per_min * 200 / 60


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 200)), min_size=1, max_size=150),
    st.integers(1, 4),
)
def test_however_calls_come_no_61_s_hold_more_than_the_share(
    per_min: int, calls: list[tuple[float, int]], workers: int
) -> None:
    clock = Clock()
    gate = limit(clock, requests_per_min=per_min, tokens_per_min=1000)
    granted: list[tuple[float, int]] = []
    for pause_s, tokens in calls:
        clock.now += pause_s
        if isinstance(gate.take(tokens, workers=workers, in_flight=0), Granted):
            granted.append((clock.now, tokens))
    for start, _ in granted:
        within = [tokens for at, tokens in granted if start <= at < start + 61.0]
        assert len(within) <= max(per_min // workers, 1)
        assert sum(within) <= max(1000 // workers, max(within))


def test_several_processes_share() -> None:
    clock = Clock()
    granted = saturate(limit(clock, requests_per_min=600), clock, seconds=120, workers=4)
    assert most_within(granted, 61.0) <= 150
    assert len(granted) >= 0.95 * 300


def test_what_the_shared_limit_granted_before_counts() -> None:
    clock = Clock()
    gate = limit(clock, requests_per_min=20)
    for _ in range(20):
        gate.note(1)
    clock.now += 30
    refused = gate.take(1, workers=1, in_flight=0)
    assert isinstance(refused, Denied)
    assert refused.wait_s == pytest.approx(31.0)


def test_a_call_beyond_the_share_of_tokens_goes_alone() -> None:
    clock = Clock()
    gate = limit(clock, tokens_per_min=1000)
    assert isinstance(gate.take(5000, workers=2, in_flight=0), Granted)
    assert isinstance(gate.take(1, workers=2, in_flight=0), Denied)


def test_concurrency_is_shared_and_never_less_than_one() -> None:
    gate = limit(Clock(), max_concurrency=4)
    assert isinstance(gate.take(1, workers=2, in_flight=1), Granted)
    assert isinstance(gate.take(1, workers=2, in_flight=2), Denied)
    assert isinstance(gate.take(1, workers=9, in_flight=0), Granted)


def test_what_the_others_do_not_know_is_carried() -> None:
    gate = limit(Clock(), requests_per_min=600)
    gate.note(5)
    gate.take(7, workers=1, in_flight=0)
    assert (gate.carried_requests, gate.carried_tokens) == (1, 7)
    gate.carry_all()
    assert (gate.carried_requests, gate.carried_tokens) == (2, 12)


def test_concurrency_rises_by_one_a_round_and_falls_by_three_in_ten() -> None:
    clock = Clock()
    adaptive = AdaptiveConcurrency(100, clock=clock)
    assert adaptive.has_room(500)  # at the ceiling it is the slots that limit
    adaptive.cut(OVERLOAD_CUT, in_flight=39)
    assert adaptive.cap == pytest.approx(28.0)
    assert adaptive.has_room(27)
    assert not adaptive.has_room(28)
    for _ in range(29):
        adaptive.rise()
    assert 28.9 < adaptive.cap < 29.1


def test_many_signs_of_one_overload_cut_once() -> None:
    clock = Clock()
    adaptive = AdaptiveConcurrency(100, clock=clock)
    for _ in range(50):
        adaptive.cut(OVERLOAD_CUT, in_flight=49)
    assert adaptive.cap == pytest.approx(35.0)
    clock.now += 1.0
    adaptive.cut(OVERLOAD_CUT, in_flight=49)
    assert adaptive.cap == pytest.approx(24.5)


def test_concurrency_never_falls_below_one_nor_rises_above_the_ceiling() -> None:
    clock = Clock()
    adaptive = AdaptiveConcurrency(3, clock=clock)
    for _ in range(20):
        clock.now += 1.0
        adaptive.cut(OVERLOAD_CUT, in_flight=0)
    assert adaptive.cap == 1.0
    assert adaptive.has_room(0)
    for _ in range(20):
        adaptive.rise()
    assert adaptive.cap == 3.0
