"""Stretches of time as users type them."""

from datetime import timedelta

import pytest

from cli.command_errors import CommandError, ExitCode
from cli.param_types import match_duration, parse_duration


@pytest.mark.parametrize(("told", "hours"), [("24h", 24), ("7d", 168), (" 2w ", 336), ("1y", 8760), ("0d", 0)])
def test_a_number_and_a_unit_are_a_stretch(told: str, hours: int) -> None:
    assert match_duration(told) == timedelta(hours=hours)


@pytest.mark.parametrize("told", ["", "7", "d", "-1d", "1.5h", "7 d", "7m", "1000000d", "99999y", "٣d"])
def test_what_is_none_is_told_with_what_would_be_one(told: str) -> None:
    assert match_duration(told) is None
    with pytest.raises(CommandError, match=r"--last .* is no stretch of time") as caught:
        parse_duration("--last", told, example="24h")
    assert (caught.value.code, caught.value.hint) == (ExitCode.USAGE, "Write a number and h, d, w or y: --last 24h.")
