"""What may be wrong with a line before anybody asks what it means, in words, with the mend."""

import difflib
import re
from functools import lru_cache
from typing import Any, Final

import orjson

from submission.input_line import LineError

_NOT_JSON_NUMBER: Final = re.compile(rb"-?(?:NaN|Inf(?:inity)?)\b", re.IGNORECASE)
_NUL_ESCAPE: Final = b"\\u0000"


def json_error(raw: bytes, error: orjson.JSONDecodeError) -> LineError:
    """Why ``raw`` is not JSON: better than the parser says it, and with the mend."""
    try:
        raw.decode()
    except UnicodeDecodeError as wrong:
        return encoding_error(wrong)
    why = str(error)
    if "depth" in why or "ecursion" in why:
        return LineError("line", "it is nested deeper than a parser goes", "Flatten it")
    if "surrogate" in why:
        return LineError(
            "line", f"it has half of a surrogate pair at character {error.pos + 1}", "Write the whole character"
        )
    if b"\0" in raw:
        return LineError("line", f"it has a NUL byte at byte {raw.index(0) + 1}", "Take it out")
    if "infinity" in why:
        return LineError(
            "line", f"the number at character {error.pos + 1} is too large", "Write it as text, or smaller"
        )
    before = raw.decode()[: error.pos].encode()
    if (odd := _NOT_JSON_NUMBER.search(raw, max(0, len(before) - 1))) and odd.start() <= len(before):
        return LineError("line", f"{odd.group().decode()} is not JSON", "Write null, or a number")
    if error.pos >= len(raw.decode()):
        return LineError("line", "the JSON ends too early", "Give one whole JSON object on each line")
    return LineError(
        "line", f"the JSON is broken at character {error.pos + 1}", "Give one whole JSON object on each line"
    )


def encoding_error(error: UnicodeDecodeError) -> LineError:
    """Where the bytes stop being text."""
    return LineError("line", f"it is not UTF-8 at byte {error.start + 1}", "Save the file as UTF-8")


def storage_error(raw: bytes, given: dict[str, Any], *, max_depth: int) -> LineError | None:
    """What jsonb would refuse, or nesting that a later reader would stumble over."""
    if len(raw) > 2 * max_depth and raw.count(b"{") + raw.count(b"[") > max_depth and _depth(given) > max_depth:
        return LineError("line", f"it is nested deeper than {max_depth} levels", "Flatten it")
    if b"\\" in raw and _NUL_ESCAPE in raw and _has_nul(given):
        return LineError("line", "a text in it has a NUL character (\\u0000)", "Take it out")
    return None


@lru_cache(maxsize=1024)
def closest_option_key(key: str, *, among: frozenset[str]) -> str | None:
    """The one of ``among`` that was meant by ``key``; any other unknown key is the user's own and passes."""
    if len(key) > 20:
        return None
    given = key.lower()
    swapped = (given[:at] + given[at + 1] + given[at] + given[at + 2 :] for at in range(len(given) - 1))
    near = difflib.get_close_matches(given, sorted(among), n=1, cutoff=0.8)
    # Two letters the wrong way round are less than that of a short key; "time" would be, too.
    return next((meant for meant in swapped if meant in among), near[0] if near else None)


def _depth(given: Any) -> int:
    deepest, level = 0, [given]
    while level:
        deepest += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return deepest


def _has_nul(given: Any) -> bool:
    open_: list[Any] = [given]
    while open_:
        match open_.pop():
            case str() as text if "\0" in text:
                return True
            case dict() as mapping:
                open_ += mapping.keys()
                open_ += mapping.values()
            case list() as items:
                open_ += items
            case _:
                pass
    return False
