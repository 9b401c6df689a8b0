"""The ledger's statements, one file each; the first comment of a file says what is true afterwards."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch
from db.failpoints import without_guards

_PATHS = {path.name: path for folder in files(__name__).iterdir() if folder.is_dir() for path in folder.iterdir()}
"""Paths by file name, which is unique over all folders."""


@cache
def statement(name: str) -> TextClause:
    """The statement in ``name``.sql, with its ``:parameters`` to bind. Raises KeyError where there is none."""
    return text(without_guards(name, _PATHS[f"{name}.sql"].read_text(encoding="utf-8")))


class Statements:
    """What runs these statements on one engine. Every method of a subclass raises DBAPIError."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def _fetch(self, name: str, /, **params: object) -> Sequence[Row[Any]]:
        return await fetch(self._engine, statement(name), **params)

    async def _query(self, sql: str, /, **params: object) -> Sequence[Row[Any]]:
        return await fetch(self._engine, sql, **params)
