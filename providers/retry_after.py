"""The wait that a provider asks for: in seconds, as a date, or in milliseconds.

Sources: RFC 9110 §10.2.3 for ``Retry-After``; ``retry-after-ms`` is OpenAI's and Azure's.
"""

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_S: Final = 300.0
"""The maximum rest that a provider can cause, so that a mistaken header does not stop a fleet for a day."""


LONGEST_DAILY_S: Final = 25 * 3600.0
"""The maximum if the body says that a day's quota is used up."""


def clamp(wait_s: float, longest_s: float = LONGEST_S) -> float:
    """Return ``wait_s`` within [0, ``longest_s``]."""
    return min(max(wait_s, 0.0), longest_s)


def read_retry_after(headers: Mapping[str, str], *, now: float, longest_s: float = LONGEST_S) -> float | None:
    """Return the seconds to wait from ``now`` (Unix seconds), at most ``longest_s``. None if no header asks for a wait.

    A wait of 0, which Azure sends if it does not know, counts as none, because the limit would be met again at once.
    """
    asked = headers.get("retry-after")
    waits = (
        _number(headers.get("retry-after-ms"), per_second=1000),
        _number(asked, per_second=1),
        _date(asked, now=now),
    )
    return next((clamp(wait_s, longest_s) for wait_s in waits if wait_s is not None and wait_s > 0), None)


def _number(value: str | None, *, per_second: int) -> float | None:
    try:
        found = float(value or "") / per_second
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _date(value: str | None, *, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):  # the latter for a year of twelve digits
        return None
    if moment.tzinfo is None:  # "-0000" says that the zone is unknown; HTTP dates are in GMT
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() - now
