"""The deadline of a batch as users state it: a time from now, or a clock time."""

import re
from datetime import datetime, timedelta
from typing import Final

_WINDOW: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_MINUTES: Final = {"m": 1, "h": 60, "d": 24 * 60}
_CLOCK: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")

LONGEST: Final = timedelta(days=30)


def deadline_within(text: str, now: datetime) -> datetime:
    """Return ``now`` plus a time such as 90m, 24h or 2d. Raises ValueError with the fix."""
    found = _WINDOW.fullmatch(text.strip())
    window = timedelta(minutes=int(found[1]) * _MINUTES[found[2]]) if found is not None else LONGEST * 2
    if window > LONGEST:
        raise ValueError("give minutes, hours or days up to 30d, for example 90m, 24h or 2d")
    return now + window


def deadline_by(text: str, now: datetime) -> datetime:
    """Return the next moment at which a clock in the zone of ``now`` shows ``text`` (06:00), or the ISO 8601 moment.

    ``now`` has a time zone, and a moment without one is in that zone. Raises ValueError with the fix.
    """
    if (found := _CLOCK.fullmatch(text.strip())) is not None:
        moment = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
        return moment if moment > now else moment + timedelta(days=1)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("give a time such as 06:00, or a moment such as 2030-01-31T06:00+01:00") from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo)
    if not now < moment <= now + LONGEST:
        raise ValueError("the deadline must be in the future, and at most 30 days ahead")
    return moment
