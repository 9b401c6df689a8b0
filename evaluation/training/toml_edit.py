"""One setting of a fleet file changed in its text, so that comments and order stay."""

import json
import re
from typing import Final

from evaluation.data.dataset_errors import EvaluationError

_HEADER: Final = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")


class FleetTextError(EvaluationError):
    """The text has no such table."""


def with_setting(text: str, *, table: str, key: str, value: float | str) -> str:
    """``text`` with ``key = value`` in ``[table]``: changed where it stands, else added under the header.

    Raises FleetTextError where the table has no header line of its own.
    """
    written = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value:g}"
    lines = text.splitlines(keepends=True)
    begin = next((at for at, line in enumerate(lines) if _table_of(line) == table), None)
    if begin is None:
        raise FleetTextError(f"the fleet file has no [{table}]; add that line, then try again")
    end = next((at for at in range(begin + 1, len(lines)) if _table_of(lines[at]) is not None), len(lines))
    setting = re.compile(rf'^(\s*{re.escape(key)}\s*=\s*)("[^"]*"|[-+0-9._eE]+)(.*)$', re.DOTALL)
    for at in range(begin + 1, end):
        if found := setting.match(lines[at]):
            lines[at] = f"{found[1]}{written}{found[3]}"
            return "".join(lines)
    header = lines[begin] if lines[begin].endswith("\n") else lines[begin] + "\n"
    lines[begin] = f"{header}{key} = {written}\n"
    return "".join(lines)


def _table_of(line: str) -> str | None:
    found = _HEADER.match(line)
    return re.sub(r"\s*\.\s*", ".", found[1]).replace('"', "").replace("'", "") if found else None
