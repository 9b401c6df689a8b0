"""Names of models, and when two of them are of the same one."""

import re
from typing import Final

_SUFFIX: Final = re.compile(
    r"(?:[-@:_](?:latest|preview|stable|exp|default|free|\d{2}-\d{2,4}|\d{3,8}(?:-\d{2}-\d{2})?|v\d+(?:[:.]\d+)*))+$"
)


def plain_name(name: str) -> str:
    """``name`` of a model without what snapshots, publishers and spellings add: equal for the same model."""
    return _SUFFIX.sub("", name.rpartition("/")[2].lower().replace(".", "-"))
