"""Durations as users type them."""

from datetime import timedelta

import pytest

from cli.command_errors import CommandError, ExitCode
from cli.param_types import match_duration, parse_duration


@pytest.mark.parametrize(("text", "hours"), [("24h", 24), ("7d", 168), (" 2w ", 336), ("1y", 8760), ("0d", 0)])
def test_a_number_and_a_unit_are_a_duration(text: str, hours: int) -> None:
    assert match_duration(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "7 d", "7m", "1000000d", "99999y", "٣d"])
def test_an_invalid_duration_is_reported_with_an_example(text: str) -> None:
    assert match_duration(text) is None
    with pytest.raises(CommandError, match=r"Invalid duration for --last: ") as caught:
        parse_duration("--last", text, example="24h")
    assert (caught.value.code, caught.value.hint) == (
        ExitCode.USAGE,
        "Use a number with h, d, w or y, for example --last 24h.",
    )
