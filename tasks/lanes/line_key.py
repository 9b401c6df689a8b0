"""The key of a line of a provider batch: the id of its call, and a mark of the provider batch.

The id alone is not unique, because another installation with the same provider account has calls with the same ids.
"""

import re
from typing import Final

_MARK: Final = 12
_CALL: Final = re.compile(r"[0-9]{1,18}")


def key_of(call_id: int, marker: str) -> str:
    """Return the key of the call ``call_id`` in the provider batch with this marker."""
    return f"{call_id}-{marker[-_MARK:]}"


def call_of(key: str, marker: str) -> int | None:
    """Return the call of a key in the provider batch with this marker, or None if the key is not one of its keys."""
    call, _, mark = key.partition("-")
    return int(call) if mark == marker[-_MARK:] and _CALL.fullmatch(call) else None
