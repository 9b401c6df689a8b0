"""The window follows the pace of a stage."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.feeder.queue_window import MAX_WINDOW, DrainRate


def test_an_idle_stage_keeps_its_least_window() -> None:
    assert DrainRate().window(least=128, window_s=1.0) == 128


def test_a_stage_that_takes_a_thousand_a_second_gets_a_second_of_work() -> None:
    pace = DrainRate()
    now = 100.0
    pace.observe(0, now=now)
    for _ in range(200):
        pace.sent = 100
        now += 0.1
        pace.observe(0, now=now)
    assert 950 <= pace.window(least=10, window_s=1.0) <= 1050


def test_a_stage_without_workers_slows_down_to_nothing() -> None:
    pace = DrainRate(rate_per_s=1000.0, depth=500, since=100.0)
    for second in range(1, 30):
        pace.observe(500, now=100.0 + second)
    assert pace.rate_per_s < 1.0


@given(st.integers(1, 10**6), st.floats(0, 1e9), st.floats(0.01, 60))
def test_the_window_is_bounded(least: int, rate: float, window_s: float) -> None:
    assert DrainRate(rate_per_s=rate).window(least=least, window_s=window_s) <= MAX_WINDOW
