"""Names of models, and whether two names mean the same model."""

import re
from typing import Final

_SUFFIX: Final = re.compile(
    r"(?:[-@:_](?:latest|preview|stable|exp|default|free|\d{2}-\d{2,4}|\d{3,8}(?:-\d{2}-\d{2})?|v\d+(?:[:.]\d+)*))+$"
)


def plain_name(name: str) -> str:
    """Return ``name`` without snapshot, publisher and spelling variants, so that names of the same model are equal."""
    return _SUFFIX.sub("", name.rpartition("/")[2].lower().replace(".", "-"))
