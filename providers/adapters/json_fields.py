"""Reads JSON of uncertain shape. Each function returns the value if it has the type, else an empty value."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final


def as_dict(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> Sequence[Any]:
    """Return ``value`` if it is an array, else an empty one."""
    return value if isinstance(value, list) else ()


def as_str(value: object) -> str:
    """Return ``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def identifier(value: object) -> str:
    """Return ``value`` if it is a string that may be an id (up to 256 printable ASCII characters), else an empty
    one."""
    found = as_str(value)
    return found if len(found) <= 256 and found.isascii() and found.isprintable() else ""


MOST_TOKENS: Final = 2**31 - 1
"""No call has more, and the ledger's columns hold no more, so larger figures are rejected."""


def as_count(value: object) -> int:
    """Return ``value`` if it is a whole number from 0 to `MOST_TOKENS`, else 0.

    Numbers as text are accepted, such as an int64 of protobuf and the usage of some gateways.
    """
    if not value:  # nearly always: most counts are 0, or are not there
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = float(value)  # as precise as a count that is believed
    if isinstance(value, float) and value.is_integer():  # JSON has one kind of number
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS else 0


def number(value: object) -> float | None:
    """Return ``value`` if it is a finite number, else None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:  # a whole number beyond a double
        return None
    return found if math.isfinite(found) else None


def moment(value: object) -> float | None:
    """Return the Unix seconds of ``value`` if it is a time by RFC 3339, else None."""
    try:
        return datetime.fromisoformat(as_str(value)).timestamp()
    except ValueError:
        return None


def code(value: object) -> str | None:
    """Return ``value`` if it looks like a provider's error code, which may be shown, else None, because prose may echo
    a prompt."""
    if isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and value.replace("_", "a").isalnum():
        return value
    return None


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are numbers, or None without any."""
    known = [value for value in values if value is not None]
    return number(sum(known) / len(known)) if known else None
