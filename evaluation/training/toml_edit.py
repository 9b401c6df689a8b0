"""Changes one setting in the text of a fleet file; comments and order stay."""

import tomlkit
from tomlkit.items import Table

from evaluation.data.dataset_errors import EvaluationError


class FleetTextError(EvaluationError):
    """The text has no such table."""


def with_setting(text: str, *, table: str, key: str, value: float | str) -> str:
    """``text`` with ``key = value`` in ``[table]``. Raises FleetTextError where the text has no such table."""
    document = tomlkit.parse(text)
    entry: object = document
    for name in table.split("."):
        entry = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(entry, Table):
        raise FleetTextError(f"the fleet file has no [{table}]. fix: add that line, and try again")
    entry[key] = value if isinstance(value, str) else float(f"{value:g}")
    return tomlkit.dumps(document)
