"""The ledger's statements, one file each; the first comment of a file says what is true afterwards."""

from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text

from db.failpoints import without_guards


@cache
def statement(name: str) -> TextClause:
    """The statement in ``name``.sql, with its ``:parameters`` to bind."""
    return text(without_guards(name, files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")))
