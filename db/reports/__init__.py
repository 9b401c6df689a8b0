"""Questions about batches and queries, one statement each, in the file of its name."""

from collections.abc import Sequence
from dataclasses import fields
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Figures = TypeVar("_Figures", bound="DataclassInstance")

_PATHS = {
    path.name: path
    for folder in files(__name__).joinpath("sql").iterdir()
    if folder.is_dir()
    for path in folder.iterdir()
}
"""By file name, which is unique over all folders."""


@cache
def report(name: str) -> TextClause:
    """The statement in ``name``.sql, with its ``:parameters`` to bind."""
    return text(_PATHS[f"{name}.sql"].read_text(encoding="utf-8"))


async def run_report(engine: AsyncEngine, name: str, **params: object) -> Sequence[Row[Any]]:
    """The rows of the answer to the question ``name``."""
    return await fetch(engine, report(name), **params)


def figures_of(kind: type[_Figures], row: Row[Any], **others: object) -> _Figures:
    """A ``kind`` of the columns that have its fields' names, but those that ``others`` gives."""
    columns = {part.name: _plain(getattr(row, part.name)) for part in fields(kind) if part.name not in others}
    return kind(**columns | others)


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return usd(value)
        case list():
            return tuple(value)
        case _:
            return value


def usd(amount: Decimal | float) -> float:
    """An amount of US dollars, to the billionth."""
    return round(float(amount), 9)
