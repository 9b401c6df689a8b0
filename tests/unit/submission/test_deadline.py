"""Deadlines as users say them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from submission.deadline import deadline_by, deadline_within

NOW = datetime(2026, 3, 5, 22, 30, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(("text", "hours"), [("90m", 1.5), ("24h", 24), (" 2d ", 48), ("30d", 720)])
def test_a_window_counts_from_now(text: str, hours: float) -> None:
    assert deadline_within(text, NOW) == NOW + timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "24", "0h", "31d", "1.5h", "24 h", "-3h", "99999d", "soon"])
def test_a_window_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="90m, 24h or 2d"):
        deadline_within(text, NOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("06:00", datetime(2026, 3, 6, 5, tzinfo=UTC)),
        ("22:31", datetime(2026, 3, 5, 21, 31, tzinfo=UTC)),
        ("22:30", datetime(2026, 3, 6, 21, 30, tzinfo=UTC)),
        ("2026-03-07T06:00", datetime(2026, 3, 7, 5, tzinfo=UTC)),
        ("2026-03-07T06:00+00:00", datetime(2026, 3, 7, 6, tzinfo=UTC)),
    ],
)
def test_a_clock_time_is_the_next_one_in_the_users_zone(text: str, moment: datetime) -> None:
    assert deadline_by(text, NOW) == moment


@pytest.mark.parametrize("text", ["25:00", "6", "tomorrow", "2026-03-05T22:00", "2027-01-01T00:00"])
def test_another_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"give a time such as 06:00|in the future"):
        deadline_by(text, NOW)
