"""A table's cell as text, for prompts, ids and CSV files."""

import base64
from datetime import date, datetime, time
from typing import Any

import orjson


def cell_text(value: Any) -> str:
    """Return ``value`` as text: null is empty, true and false as in JSON, dates in ISO 8601, lists and objects as JSON.

    Bytes are UTF-8 text, or base64 otherwise.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return base64.b64encode(value).decode()
        case dict() | list() | tuple():
            return cell_json(value).decode()
        case _:
            return str(value)  # Decimal, timedelta, UUID


def cell_json(value: Any) -> bytes:
    """Return ``value`` as JSON. Types that JSON lacks become text. Raises orjson.JSONEncodeError."""
    return orjson.dumps(value, default=cell_text, option=orjson.OPT_NON_STR_KEYS)
