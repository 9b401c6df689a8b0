"""Questions about batches and queries, one statement each, in the file of its name."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch

_PATHS = {
    path.name: path
    for folder in files(__name__).joinpath("sql").iterdir()
    if folder.is_dir()
    for path in folder.iterdir()
}
"""Paths by file name, which is unique over all folders."""


@cache
def report(name: str) -> TextClause:
    """The statement in ``name``.sql, with its ``:parameters`` to bind."""
    return text(_PATHS[f"{name}.sql"].read_text(encoding="utf-8"))


async def run_report(engine: AsyncEngine, name: str, **params: object) -> Sequence[Row[Any]]:
    """The rows of the answer to the question ``name``."""
    return await fetch(engine, report(name), **params)
