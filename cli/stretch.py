"""Stretches of time as users type them: 24h, 90d, 12w, 2y."""

import re
from datetime import timedelta
from typing import Final

from cli.failure import Code, Stop

_TOLD: Final = re.compile(r"([0-9]{1,5})([hdwy])")
_LONGEST: Final = timedelta(days=200 * 365)
"""So long ago there is still a date."""
_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


def find_stretch(told: str) -> timedelta | None:
    """How long that is; None where it is no stretch of time."""
    found = _TOLD.fullmatch(told.strip())
    if found is None:
        return None
    long = timedelta(hours=int(found[1]) * _HOURS[found[2]])
    return long if long <= _LONGEST else None


def stretch(option: str, told: str, *, example: str) -> timedelta:
    """How long what was given for ``option`` is. Raises Stop where it is no stretch of time."""
    found = find_stretch(told)
    if found is None:
        raise Stop(
            f"{option} {told[:20]!r} is no stretch of time.",
            hint=f"Write a number and h, d, w or y: {option} {example}.",
            code=Code.USAGE,
        )
    return found
