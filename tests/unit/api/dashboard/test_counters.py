"""Counts are added up, and percentiles read from them lie between the bounds that they were counted in."""

import pytest

from api.dashboard.counters import BOUNDS_MS, DashboardCounters, sum_of


def test_tallies_add_up() -> None:
    one, other = DashboardCounters(), DashboardCounters()
    one.answered["small"], other.answered["small"] = 2, 3
    one.baseline_usd, other.baseline_usd = 0.5, 0.25
    total = sum_of([one, other])
    assert (total.answered["small"], total.baseline_usd) == (5, 0.75)
    assert one.answered["small"] == 2


def test_a_percentile_lies_within_its_interval() -> None:
    tally = DashboardCounters()
    tally.latencies["m", 3] = 90  # 100 to 200 ms
    tally.latencies["m", 6] = 10  # 800 to 1500 ms
    assert tally.percentile_ms("m", 0.5) == pytest.approx(100 + 100 * 50 / 90)
    assert tally.percentile_ms("m", 0.95) == pytest.approx(800 + 700 * 5 / 10)


def test_what_is_beyond_all_bounds_is_reported_as_the_last() -> None:
    tally = DashboardCounters()
    tally.latencies["m", len(BOUNDS_MS)] = 1
    assert tally.percentile_ms("m", 0.99) == BOUNDS_MS[-1]


def test_without_calls_there_is_no_percentile() -> None:
    assert DashboardCounters().percentile_ms("m", 0.5) is None
