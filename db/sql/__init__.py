"""The ledger's statements, one file each; the first comment of a file says what is true afterwards."""

from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text

from db.failpoints import without_guards

_PATHS = {path.name: path for folder in files(__name__).iterdir() if folder.is_dir() for path in folder.iterdir()}
"""By file name, which is unique over all folders."""


@cache
def statement(name: str) -> TextClause:
    """The statement in ``name``.sql, with its ``:parameters`` to bind. Raises KeyError where there is none."""
    return text(without_guards(name, _PATHS[f"{name}.sql"].read_text(encoding="utf-8")))
