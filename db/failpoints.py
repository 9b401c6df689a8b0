"""Named places where a test makes this process die or misbehave. In an installed product every one of them is off.

Nothing here reads the environment: only ``tests/failpoints.py`` fills `armed`, and it is not part of what is installed.
"""

import os
import signal
from typing import Final

armed: Final[dict[str, str]] = {}
"""The failpoints that are switched on, with their values."""

replacements: Final[dict[str, list[tuple[str, str]]]] = {}
"""By the name of a statement: the texts to replace in it, and their replacements. A test removes a guard in this
way."""


def is_set(name: str) -> bool:
    return name in armed


def die_at(name: str) -> None:
    """``kill -9`` of this process, where the failpoint is on."""
    if name in armed:
        os.kill(os.getpid(), signal.SIGKILL)


def die_once_at(name: str) -> None:
    """The same, but only once: where the failpoint is on, and the file that its value names is not there yet."""
    if name in armed:
        try:
            os.close(os.open(armed[name], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def without_guards(name: str, sql: str) -> str:
    """The statement ``name`` without the guards that a test leaves out. Raises ValueError where one is not in it."""
    for old, new in replacements.get(name, ()):
        if old not in sql:
            raise ValueError(f"{name}.sql does not contain {old!r}. Correct GUARDS in tests/failpoints.py.")
        sql = sql.replace(old, new)
    return sql
