"""The key of a line of a provider batch: the id of its call, and a mark of the provider batch.

Ids alone are not ours alone: another installation at the same provider's account has calls with the same ids.
"""

import re
from typing import Final

_MARK: Final = 12
_CALL: Final = re.compile(r"[0-9]{1,18}")


def key_of(call_id: int, marker: str) -> str:
    """The key of the call ``call_id`` in the provider batch with this marker."""
    return f"{call_id}-{marker[-_MARK:]}"


def call_of(key: str, marker: str) -> int | None:
    """The call of a key in the provider batch with this marker; None where the key is none of its keys."""
    call, _, mark = key.partition("-")
    return int(call) if mark == marker[-_MARK:] and _CALL.fullmatch(call) else None
