"""Errors of a line as JSON, and as data for Postgres."""

import difflib
import re
from functools import lru_cache
from typing import Any, Final

import orjson

from submission.input_line import LineError

_NOT_JSON_NUMBER: Final = re.compile(rb"-?(?:NaN|Inf(?:inity)?)\b", re.IGNORECASE)
_NUL_ESCAPE: Final = b"\\u0000"


def json_error(raw: bytes, error: orjson.JSONDecodeError) -> LineError:
    """Return why ``raw`` is not JSON, with more precision than the parser's message, and the fix."""
    try:
        raw.decode()
    except UnicodeDecodeError as encoding:
        return encoding_error(encoding)
    why = str(error)
    if "depth" in why or "ecursion" in why:
        return LineError("line", "nested deeper than the parser allows", "Flatten it")
    if "surrogate" in why:
        return LineError("line", f"half of a surrogate pair at character {error.pos + 1}", "Write the whole character")
    if b"\0" in raw:
        return LineError("line", f"NUL byte at byte {raw.index(0) + 1}", "Remove it")
    if "infinity" in why:
        return LineError(
            "line", f"the number at character {error.pos + 1} is too large", "Use a smaller number, or text"
        )
    before = raw.decode()[: error.pos].encode()
    if (number := _NOT_JSON_NUMBER.search(raw, max(0, len(before) - 1))) and number.start() <= len(before):
        return LineError("line", f"{number.group().decode()} is not JSON", "Write null, or a number")
    wrong = "ends too early" if error.pos >= len(raw.decode()) else f"is broken at character {error.pos + 1}"
    return LineError("line", f"the JSON {wrong}", "Write one complete JSON object per line")


def encoding_error(error: UnicodeDecodeError) -> LineError:
    """Return the position at which the bytes are not UTF-8."""
    return LineError("line", f"not UTF-8 at byte {error.start + 1}", "Save the file as UTF-8")


def check_storable(raw: bytes, line: dict[str, Any], *, max_depth: int) -> None:
    """Raises LineError for data that jsonb rejects, or nesting too deep for a later reader."""
    if len(raw) > 2 * max_depth and raw.count(b"{") + raw.count(b"[") > max_depth and _depth(line) > max_depth:
        raise LineError("line", f"nested deeper than {max_depth} levels", "Flatten it")
    if b"\\" in raw and _NUL_ESCAPE in raw and _has_nul(line):
        raise LineError("line", "has a NUL character (\\u0000)", "Remove it")


@lru_cache(maxsize=1024)
def closest_option_key(key: str, *, options: frozenset[str]) -> str | None:
    """Return the option that ``key`` misspells, or None for a key of the user's own."""
    if len(key) > 20:
        return None
    name = key.lower()
    swaps = (name[:at] + name[at + 1] + name[at] + name[at + 2 :] for at in range(len(name) - 1))
    similar = difflib.get_close_matches(name, sorted(options), n=1, cutoff=0.8)
    # The cutoff misses two swapped letters of a short key; a lower one would match "time" for "tier".
    return next((swap for swap in swaps if swap in options), similar[0] if similar else None)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return depth


def _has_nul(value: Any) -> bool:
    pending: list[Any] = [value]
    while pending:
        match pending.pop():
            case str() as text if "\0" in text:
                return True
            case dict() as mapping:
                pending += mapping.keys()
                pending += mapping.values()
            case list() as items:
                pending += items
            case _:
                pass
    return False
